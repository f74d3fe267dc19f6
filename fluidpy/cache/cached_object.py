"""One object version in the cache, as its fetchers and readers use it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fluidpy.cache.accounting import TierAccount
from fluidpy.cache.cache_file import (
    CacheFile,
    Descriptor,
    blocks_intact,
    storage_failure,
    sums_of,
    write_all,
)
from fluidpy.cache.eviction import FileId
from fluidpy.cache.index_schema import CHUNK_BLOCKS
from fluidpy.cache.presence import blocks_touched, members, runs
from fluidpy.errors import CacheError

if TYPE_CHECKING:
    from fluidpy.cache.store import BlockStore

_RECENT_SEGMENTS: Final = 8
"""Segments of a held object, last asked for by `fd_for`, that are kept from eviction."""


class _Leftover(NamedTuple):
    """A file that left the cache while in use: its bytes count until nobody uses it."""

    account: TierAccount
    bytes: int
    descriptors: list[Descriptor]
    held: bool


class _Part(NamedTuple):
    """The piece of a range that lies in one file: `[start, end)` in the file, its blocks."""

    file: CacheFile
    base: int
    start: int
    end: int
    mask: int


class CachedObject:
    """An object of `size` bytes under `key`, in blocks of `block_bytes`.

    The order of a fill is `reserve`, `write` (any thread, any number of calls), `commit`; whatever
    was reserved and not committed is given back by `abandon`, after its writes have returned.
    Readers call `acquire`, then `missing`, then `fd_for`, and `release` at the end. Ranges are in
    bytes of the object, half-open. Calls are short and may be made from any thread; `write`,
    `verify` and, for an object that is `suspect`, `missing` read or write data.
    """

    __slots__ = ("__weakref__", "_files", "_holds", "_leftovers", "_recent", "_store",
                 "block_bytes", "key", "pinned", "segment_bytes", "size")  # fmt: skip

    def __init__(self, store: BlockStore, key: bytes, size: int, segment_bytes: int) -> None:
        self._store = store
        self.key = key
        self.size = size
        self.block_bytes = store.block_bytes
        self.segment_bytes = segment_bytes
        """Length of the files the object is kept in, in bytes; 0: in one file."""
        self.pinned = False
        self._files: dict[int, CacheFile] = {}
        self._holds = 0
        self._leftovers: list[_Leftover] = []
        self._recent: deque[CacheFile] | None = None

    def __repr__(self) -> str:
        return f"CachedObject({self.key.hex()}, size={self.size}, complete={self.complete})"

    # What is there.

    @property
    def file_count(self) -> int:
        """How many files the object has when complete."""
        return max(1, -(-self.size // self.segment_bytes)) if self.segment_bytes else 1

    @property
    def complete(self) -> bool:
        """Whether all bytes are present and none has to be verified first."""
        files = self._files
        return len(files) == self.file_count and all(file.complete for file in files.values())

    @property
    def suspect(self) -> bool:
        """Whether blocks have to be verified before use (call `verify` in a thread first)."""
        return any(file.unverified for file in self._files.values())

    @property
    def present_bytes(self) -> int:
        """Bytes on disk of the blocks that are present."""
        return sum(file.bytes_of(file.present) for file in self._files.values())

    @property
    def on_disk(self) -> bool:
        """Whether any file of the object exists."""
        return any(file.on_disk for file in self._files.values())

    @property
    def path(self) -> str:
        """Path of the cache file (of the first segment); "" while there is none."""
        file = self._files.get(0)
        if file is None or file.tier is None or not file.on_disk:
            return ""
        return f"{file.tier.definition.directory}/objects/{file.name}"

    def files(self) -> list[CacheFile]:
        """The files there are, in the order of their bytes."""
        return [self._files[number] for number in sorted(self._files)]

    def file_at(self, number: int) -> CacheFile:
        """The state of a file by number; a new state when there is none."""
        file = self._files.get(number)
        if file is None:
            name = self.key.hex()
            name = f"{name[:2]}/{name}"
            length = self.size
            if self.segment_bytes:
                name = f"{name}.{number}"
                length = min(self.segment_bytes, self.size - number * self.segment_bytes)
            file = self._files[number] = CacheFile(name, number, length, self.block_bytes)
        return file

    def _parts(self, start: int, end: int) -> Iterator[_Part]:
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"range {start}-{end} is not within the object's {self.size} bytes")
        segment = self.segment_bytes or max(self.size, 1)
        while start < end:
            number = start // segment
            base = number * segment
            stop = min(end, base + segment)
            mask = blocks_touched(start - base, stop - base, self.block_bytes)
            yield _Part(self.file_at(number), base, start - base, stop - base, mask)
            start = stop

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges within the blocks of `[start, end)` that are not present, block-aligned.

        Looks at the files first, so that one altered, cut or removed by somebody is noticed here;
        what has to be verified is verified (prefer `verify` in a thread when `suspect`).
        """
        table = self._store.table
        with table.lock:
            parts = list(self._parts(start, end))
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

    # Filling.

    def reserve(self, start: int, end: int) -> None:
        """Takes room for the blocks of `[start, end)` that are neither present nor reserved.

        May evict other objects. Raises CacheFullError (nothing is reserved then), CacheError.
        """
        table = self._store.table
        done: list[tuple[CacheFile, int]] = []
        with table.lock:
            try:
                for part in self._parts(start, end):
                    file = part.file
                    wanted = part.mask & ~(file.present | file.reserved)
                    need = file.bytes_of(wanted & ~file.garbage)
                    if wanted:
                        self._store.room.place(file, need)
                        assert file.tier is not None
                        file.tier.account.reserve(need)
                        file.reserved |= wanted
                        done.append((file, wanted))
            except CacheError:
                for file, wanted in done:
                    self._give_back(file, wanted)
                raise
            finally:
                self.keep_active()
        table.announce()

    def write(self, start: int, data: Any) -> None:
        """Writes reserved blocks: `start` at a block's begin, `data` whole blocks or up to the end.

        Does not make them readable; `commit` does. Thread-safe, and the interpreter's lock is free
        while bytes move. Raises CacheFullError when the disk is full, CacheError when it fails or
        the file was replaced meanwhile: the bytes are then served without being kept.
        """
        view = memoryview(data).cast("B")
        end = start + len(view)
        if start % self.block_bytes or (end % self.block_bytes and end != self.size):
            raise ValueError(f"write of {start}-{end} is not in whole blocks")
        for part in self._parts(start, end):
            begin = part.base + part.start - start
            self._write_part(part, view[begin : begin + part.end - part.start])

    def _write_part(self, part: _Part, view: memoryview) -> None:
        table, file = self._store.table, part.file
        with table.lock:
            if part.mask & ~file.reserved:
                raise CacheError(
                    f"cache file {file.name}: a write without a reservation",
                    cure="Fetch the range again.",
                )
            descriptor = table.writer(self, file)
            descriptor.users += 1
            file.stamp = None
            file.written |= part.mask
            epoch = file.epoch
        try:
            write_all(descriptor.fd, view, part.start)
            sums = sums_of(view, self.block_bytes)
        except OSError as error:
            raise storage_failure(file.name, error) from error
        else:
            with table.lock:
                if file.epoch == epoch:
                    first = part.start // self.block_bytes
                    file.staged.update(zip(range(first, first + len(sums)), sums, strict=True))
        finally:
            with table.lock:
                descriptor.users -= 1
                if file.epoch == epoch:
                    table.restamp(file)
                    if file.present:
                        table.mark_dirty(self, file)
                self._settle()
        if file.epoch != epoch:
            raise self._replaced(file)

    def _replaced(self, file: CacheFile) -> CacheError:
        return CacheError(
            f"cache file {file.name} was replaced or not written whole while it was being filled",
            cure="Fetch the range again.",
        )

    def commit(self, start: int, end: int) -> None:
        """Makes written blocks readable, and queues their index row.

        Raises CacheError when a block of the range was not written to the file as it is now: the
        rest of the range is committed, that block's reservation given back.
        """
        table = self._store.table
        failed: CacheFile | None = None
        with table.lock:
            for part in self._parts(start, end):
                file = part.file
                new = part.mask & file.reserved
                ready = 0
                for block in members(new):
                    if block in file.staged:
                        ready |= 1 << block
                self._commit_blocks(file, ready)
                if new & ~ready:
                    self._give_back(file, new & ~ready)
                if part.mask & ~file.present:
                    failed = file
            self.keep_active()
        if failed is not None:
            raise self._replaced(failed)

    def _commit_blocks(self, file: CacheFile, ready: int) -> None:
        if not ready:
            return
        table = self._store.table
        assert file.tier is not None
        sums = file.checksums()
        for block in members(ready):
            sums[block] = file.staged.pop(block)
            file.changed_chunks |= 1 << block // CHUNK_BLOCKS
        account = file.tier.account
        account.keep(file.bytes_of(ready & ~file.garbage))
        file.present |= ready
        file.reserved &= ~ready
        file.written &= ~ready
        file.garbage &= ~ready
        if file.surplus and file.full:
            account.kept -= file.surplus
            file.surplus = 0
        table.restamp(file)
        table.mark_dirty(self, file)

    def abandon(self, start: int, end: int) -> None:
        """Gives back what of `[start, end)` is reserved and not committed.

        Bytes already written stay on disk, and counted, until they are written again or the file
        leaves.
        """
        with self._store.table.lock:
            for part in self._parts(start, end):
                self._give_back(part.file, part.mask & part.file.reserved)
            self.keep_active()

    def _give_back(self, file: CacheFile, blocks: int) -> None:
        if not blocks or file.tier is None:
            return
        account = file.tier.account
        spoilt = blocks & file.written & ~file.garbage
        account.keep(file.bytes_of(spoilt))
        account.give_back(file.bytes_of(blocks & ~spoilt & ~file.garbage))
        file.garbage |= spoilt
        file.reserved &= ~blocks
        file.written &= ~blocks
        for block in members(blocks):
            file.staged.pop(block, None)
        if file.present and spoilt:
            self._store.table.mark_dirty(self, file)
        self._drop_if_empty(file)

    def _drop_if_empty(self, file: CacheFile) -> None:
        if file.present or file.reserved or self.uses(file):
            return
        if file.on_disk and file.length:
            self._store.table.drop(self, file)
        elif not file.on_disk:
            file.tier = None

    # Reading.

    def acquire(self) -> None:
        """Holds the object: not evicted to make room, its descriptors stay open."""
        with self._store.table.lock:
            self._holds += 1
            self.keep_active()

    def release(self) -> None:
        """Ends one `acquire`; bytes of files unlinked meanwhile stop counting with the last."""
        with self._store.table.lock:
            if self._holds <= 0:
                raise ValueError("release without acquire")
            self._holds -= 1
            if not self._holds:
                self._recent = None
                for file in self._files.values():
                    self._drop_if_empty(file)
            self._settle()

    def uses(self, file: CacheFile) -> bool:
        """Whether the file is held, being filled, read by a thread or moved: not to be evicted."""
        if file.reserved or file.moving or file.users:
            return True
        if not self._holds:
            return False
        return not self.segment_bytes or (self._recent is not None and file in self._recent)

    def _holds_file(self, file: CacheFile) -> bool:
        recent = self._recent is not None and file in self._recent
        return self._holds > 0 and (not self.segment_bytes or recent)

    def fd_for(self, offset: int) -> tuple[int, int, int]:
        """A read-only descriptor of the file with byte `offset`: (fd, offset in it, bytes from
        there to the file's end). The file is created (empty, sparse) when it is not there.

        Valid until `release`; of a segmented object, while the segment is among the last 8 asked
        for (use `lease` to read from a thread). Raises CacheError.
        """
        table = self._store.table
        with table.lock:
            file, base = self._file_with(offset)
            descriptor = table.reader(self, file)
            if (
                self.segment_bytes
                and self._holds
                and (not self._recent or file not in self._recent)
            ):
                self._recent = self._recent or deque(maxlen=_RECENT_SEGMENTS)
                self._recent.append(file)
            file.last_use = table.policy.touch(FileId(self.key, file.number))
        table.announce()
        return descriptor.fd, offset - base, file.length - (offset - base)

    @contextlib.contextmanager
    def lease(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """As `fd_for`, valid for the `with` block in any thread, held or not."""
        table = self._store.table
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
                self._settle()

    def file_serial(self, offset: int) -> int:
        """A number of the file that now holds `offset`, another one whenever the file is replaced
        (0: no file): whoever was given a descriptor compares it before trusting new bytes in it.
        """
        with self._store.table.lock:
            file, _ = self._file_with(offset)
            return file.serial if file.on_disk else 0

    def _file_with(self, offset: int) -> tuple[CacheFile, int]:
        if not 0 <= offset < max(self.size, 1):
            raise ValueError(f"offset {offset} is not within the object's {self.size} bytes")
        number = offset // self.segment_bytes if self.segment_bytes else 0
        file = self.file_at(number)
        self._store.table.check(self, file)
        if file.tier is None:
            self._store.room.place(file, 0)
        return file, number * self.segment_bytes

    # Checking.

    def verify(self, start: int, end: int) -> bool:
        """Checks the blocks of `[start, end)` that are suspect; True when all of them were right.

        A file with a wrong block is replaced as a whole: its blocks become missing. Reads the data
        (up to the whole files), so call it in a thread.
        """
        results = [self._verify_part(part) for part in self._parts(start, end)]
        self._store.table.announce()
        return all(results)

    def _verify_part(self, part: _Part) -> bool:
        table, file = self._store.table, part.file
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
            self._settle()
        return intact

    def _trust(self, file: CacheFile, blocks: int) -> None:
        file.unverified &= ~blocks
        if not file.unverified:
            file.generation = self._store.table.generation
        self._store.table.mark_dirty(self, file)

    # Life.

    def leave_behind(self, file: CacheFile, account: TierAccount, freed: int) -> None:
        """Takes over an unlinked file's bytes and descriptors until nobody uses them."""
        descriptors = [d for d in (file.reader, file.writer) if d is not None]
        account.unlinked += freed
        self._leftovers.append(_Leftover(account, freed, descriptors, self._holds_file(file)))
        self._settle()

    def _settle(self) -> None:
        if self._leftovers:
            self._leftovers = [left for left in self._leftovers if not self._let_go(left)]
        self.keep_active()

    def _let_go(self, left: _Leftover) -> bool:
        if (left.held and self._holds) or any(d.users for d in left.descriptors):
            return False
        for descriptor in left.descriptors:
            descriptor.close()
        left.account.unlinked -= left.bytes
        return True

    def keep_active(self) -> None:
        """Keeps the object in memory while it is in use."""
        files = self._files.values()
        if self._holds or self._leftovers or any(f.reserved or f.users for f in files):
            self._store.table.active[self.key] = self
        else:
            self._store.table.active.pop(self.key, None)
