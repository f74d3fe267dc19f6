"""Blocks of a cached object as they lie in its files, with their checksums, held while sent.

For whoever sends bytes on without looking at them: the receiver compares the sums, which were taken
when the blocks came from their source.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from fluidpy.cache.cache_file import Descriptor
from fluidpy.cache.eviction import FileId

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject


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
        self.sums: array[int] = array("I")
        """The crc32c of each block of the range."""

    def close(self) -> None:
        """Lets go of the descriptors; harmless when done twice."""
        if self._descriptors:
            with self._cached.table.lock:
                for descriptor in self._descriptors:
                    descriptor.users -= 1
                self._descriptors.clear()
                self._cached.settle()


def seal(cached: CachedObject, start: int, end: int) -> SealedRange | None:
    """The blocks of `[start, end)`, which begins at a block; None unless all may be used now.

    Counts as a use. `verify` makes blocks of a `suspect` object usable. Raises CacheError.
    """
    table = cached.table
    block = cached.block_bytes
    sealed = SealedRange(cached)
    with table.lock:
        parts = cached.parts(start, end)
        for part in parts:
            table.check(cached, part.file)
        if not any(part.mask & ~part.file.present | part.file.unverified for part in parts):
            for part in parts:
                file = part.file
                descriptor = table.reader(cached, file, True)
                descriptor.users += 1
                sealed._descriptors.append(descriptor)
                file.last_use = table.policy.touch(FileId(cached.key, file.number))
                sealed.spans.append(FileSpan(descriptor.fd, part.start, part.end - part.start))
                sealed.sums += file.checksums()[part.start // block : -(-part.end // block)]
            cached.keep_active()
            return sealed
    table.announce()
    return None
