"""Blocks of a cached object as they lie in its files, with their checksums, held while sent.

For whoever sends bytes on without looking at them: the receiver compares the sums, which were taken
when the blocks came from their source.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fluidpy.cache.cache_file import Descriptor
from fluidpy.cache.eviction import FileId

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.file_table import FileTable


class FileSpan(NamedTuple):
    """Bytes of a file: its descriptor, where they begin and how many they are."""

    fd: int
    offset: int
    length: int


class SealedRange:
    """A range whose bytes cannot change and whose descriptors stay open until `close`."""

    __slots__ = ("_cached", "_descriptors", "spans", "sums")

    def __init__(self, cached: CachedObject) -> None:
        """Use `seal`."""
        self._cached = cached
        self._descriptors: list[Descriptor] = []
        self.spans: list[FileSpan] = []
        self.sums: Sequence[int] = ()
        """The crc32c of each block of the range."""

    def close(self) -> None:
        """Lets go of the descriptors; harmless when done twice."""
        if self._descriptors:
            with self._cached.table.lock:
                for descriptor in self._descriptors:
                    descriptor.users -= 1
                self._descriptors.clear()
                self._cached.settle()


def seal(
    cached: CachedObject, start: int, end: int, *, checked: bool = False
) -> SealedRange | None:
    """The blocks of `[start, end)`, which begins at a block; None unless all may be used now.

    Counts as a use. `checked` spares a look at the files of an object that is kept in one, when
    `BlockStore.get` has just had it. `verify` makes blocks of a `suspect` object usable. Raises
    CacheError.
    """
    table = cached.table
    block = cached.block_bytes
    sealed = SealedRange(cached)
    checked = checked and not cached.segment_bytes
    sums = array("I")
    with table.lock:
        parts = cached.parts(start, end)
        for part in parts if not checked else ():
            table.check(cached, part.file)
        if not any(part.mask & ~part.file.present | part.file.unverified for part in parts):
            for part in parts:
                file = part.file
                descriptor = table.reader(cached, file, True)
                descriptor.users += 1
                sealed._descriptors.append(descriptor)
                if not checked:
                    file.last_use = table.policy.touch(FileId(cached.key, file.number))
                sealed.spans.append(FileSpan(descriptor.fd, part.start, part.end - part.start))
                sums += file.checksums()[part.start // block : -(-part.end // block)]
            sealed.sums = sums
            table.active[cached.key] = cached
            return sealed
    table.announce()
    return None


def seal_complete(table: FileTable, key: bytes, size: int) -> SealedRange | None:
    """All of an object that was used lately and is complete in one file: the quick case of `seal`.

    Counts as a use. None means to look with `BlockStore.get`. Raises CacheError.
    """
    with table.lock:
        found = table.hot.get(key)
        if found is not None and not found.segment_bytes and found.size == size:
            file = found.file_at(0)
            table.check(found, file)
            if file.complete:
                table.hot.move_to_end(key)
                sealed = SealedRange(found)
                descriptor = table.reader(found, file, True)
                descriptor.users += 1
                sealed._descriptors.append(descriptor)
                file.last_use = table.policy.touch(FileId(key, 0))
                sealed.spans.append(FileSpan(descriptor.fd, 0, size))
                sealed.sums = file.checksums()  # those of present blocks never change
                table.active[key] = found
                return sealed
    table.announce()
    return None
