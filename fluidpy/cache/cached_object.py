"""One object version in the cache, as its fetchers and readers use it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Final

from fluidpy.cache.cache_file import CacheFile, blocks_intact
from fluidpy.cache.eviction import FileId
from fluidpy.cache.filling import FillableObject
from fluidpy.cache.object_files import Part
from fluidpy.cache.presence import runs
from fluidpy.cache.tier import SMALLEST_QUOTA

_RECENT_SEGMENTS: Final = 2
"""Segments of a held object, last asked for by `fd_for`, that are kept from eviction: a quarter of
a tier at most."""


class CachedObject(FillableObject):
    """An object of `size` bytes under `key`, in blocks of `block_bytes`.

    The order of a fill is `reserve`, `write` (any thread, any number of calls), `commit`; whatever
    was reserved and not committed is given back by `abandon`, after its writes have returned.
    Readers call `acquire`, then `missing`, then `fd_for`, and `release` at the end. Ranges are in
    bytes of the object, half-open. Calls are short and may be made from any thread; `write`,
    `verify` and, for an object that is `suspect`, `missing` read or write data.
    """

    __slots__ = ()

    @property
    def keeps_nothing(self) -> bool:
        """Whether its store has room for nothing: an engine caches what is read through it."""
        return all(tier.account.quota <= SMALLEST_QUOTA for tier in self.table.tiers)

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges within the blocks of `[start, end)` that are not present, block-aligned.

        Looks at the files first, so that one altered, cut or removed by somebody is noticed here;
        what has to be verified is verified (prefer `verify` in a thread when `suspect`).
        """
        table = self.table
        with table.lock:
            parts = list(self.parts(start, end))
            for part in parts:
                table.check(self, part.file)
        if any(part.file.unverified & part.mask for part in parts):
            self.verify(start, end)
        found: list[tuple[int, int]] = []
        for part in parts:
            for first, last in runs(part.mask & ~part.file.present):
                begin = part.base + first * self.block_bytes
                stop = min(part.base + last * self.block_bytes, part.base + part.file.length)
                if found and found[-1][1] == begin:
                    found[-1] = (found[-1][0], stop)
                else:
                    found.append((begin, stop))
        table.announce()
        return found

    # Reading.

    def acquire(self) -> None:
        """Holds the object: not evicted to make room, its descriptors stay open."""
        with self.table.lock:
            self._holds += 1
            self.keep_active()

    def release(self) -> None:
        """Ends one `acquire`; bytes of files unlinked meanwhile stop counting with the last."""
        with self.table.lock:
            if self._holds <= 0:
                raise ValueError("release without acquire")
            self._holds -= 1
            if not self._holds:
                self._recent = None
                for file in self._files.values():
                    if not file.present:
                        self.drop_if_empty(file)
            self.settle()

    def fd_for(self, offset: int, *, checked: bool = False) -> tuple[int, int, int]:
        """A read-only descriptor of the file with byte `offset`: (fd, offset in it, bytes from
        there to the file's end). The file is created (empty, sparse) when it is not there.

        Valid until `release`; of a segmented object, while the segment is among the last 2 asked
        for (use `lease` to read from a thread). `checked` spares a look at the file that
        `BlockStore.get` has just had. Raises CacheError.
        """
        table = self.table
        with table.lock:
            file, base = self._file_with(offset, checked)
            descriptor = table.reader(self, file, checked)
            if (
                self.segment_bytes
                and self._holds
                and (not self._recent or file not in self._recent)
            ):
                self._recent = self._recent or deque(maxlen=_RECENT_SEGMENTS)
                self._recent.append(file)
            if not checked:
                file.last_use = table.policy.touch(FileId(self.key, file.number))
        if table.gone:
            table.announce()
        return descriptor.fd, offset - base, file.length - (offset - base)

    @contextlib.contextmanager
    def lease(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """As `fd_for`, valid for the `with` block in any thread, held or not."""
        table = self.table
        with table.lock:
            file, base = self._file_with(offset)
            descriptor = table.reader(self, file)
            descriptor.users += 1
            file.last_use = table.policy.touch(FileId(self.key, file.number))
            self.keep_active()
        try:
            yield descriptor.fd, offset - base, file.length - (offset - base)
        finally:
            with table.lock:
                descriptor.users -= 1
                self.settle()

    def file_serial(self, offset: int) -> int:
        """A number of the file that now holds `offset`, another one whenever the file is replaced
        (0: no file): whoever was given a descriptor compares it before trusting new bytes in it.
        """
        with self.table.lock:
            file, _ = self._file_with(offset)
            return file.serial if file.on_disk else 0

    def _file_with(self, offset: int, checked: bool = False) -> tuple[CacheFile, int]:
        if not 0 <= offset < max(self.size, 1):
            raise ValueError(f"offset {offset} is not within the object's {self.size} bytes")
        number = offset // self.segment_bytes if self.segment_bytes else 0
        file = self.file_at(number)
        if not checked:
            self.table.check(self, file)
        if file.tier is None:
            self.room.place(file, 0)
        return file, number * self.segment_bytes

    # Checking.

    def verify(self, start: int, end: int) -> bool:
        """Checks the blocks of `[start, end)` that are suspect; True when all of them were right.

        A file with a wrong block is replaced as a whole: its blocks become missing. Reads the data
        (up to the whole files), so call it in a thread.
        """
        results = [self._verify_part(part) for part in self.parts(start, end)]
        self.table.announce()
        return all(results)

    def _verify_part(self, part: Part) -> bool:
        table, file = self.table, part.file
        with table.lock:
            doubtful = part.mask & file.unverified
            if not doubtful:
                return True
            descriptor = table.reader(self, file)
            doubtful = part.mask & file.unverified
            sums, epoch = file.checksums(), file.epoch
            descriptor.users += 1
            self.keep_active()
        try:
            intact = all(
                blocks_intact(descriptor.fd, first, last, file.length, self.block_bytes,
                              sums[first:last])
                for first, last in runs(doubtful)
            )  # fmt: skip
        finally:
            with table.lock:
                descriptor.users -= 1
        with table.lock:
            if file.epoch != epoch:
                intact = False
            elif intact:
                self._trust(file, doubtful)
            else:
                table.drop(self, file)
            self.settle()
        return intact

    def _trust(self, file: CacheFile, blocks: int) -> None:
        file.unverified &= ~blocks
        if not file.unverified:
            file.generation = self.table.generation
        self.table.mark_dirty(self, file)
