"""Blocks of a cached object as they lie in its files, with their checksums, held while sent.

For whoever sends bytes on without looking at them: the receiver compares the sums, which were taken
when the blocks came from their source.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fluidpy.cache.cache_file import FILE_FLAGS, Descriptor, Stamp, stamp_of
from fluidpy.cache.eviction import FileId
from fluidpy.cache.index import FileRow, unpack_blocks
from fluidpy.cache.presence import block_count

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.file_table import FileTable


class FileSpan(NamedTuple):
    """Bytes of a file: its descriptor, where they begin and how many they are."""

    fd: int
    offset: int
    length: int


def length_of(spans: Sequence[FileSpan]) -> int:
    """How many bytes these spans have together; mostly there is one."""
    return spans[0].length if len(spans) == 1 else sum([span.length for span in spans])


class SealedRange:
    """A range whose bytes cannot change and whose descriptors stay open until `close`."""

    __slots__ = ("_cached", "_descriptors", "_own", "spans", "sums")

    def __init__(self, cached: CachedObject | None) -> None:
        """Use `seal`."""
        self._cached = cached
        self._own = -1
        """A descriptor of nobody else's."""
        self._descriptors: list[Descriptor] = []
        self.spans: list[FileSpan] = []
        self.sums: Sequence[int] = ()
        """The crc32c of each block of the range."""

    def close(self) -> None:
        """Lets go of the descriptors; harmless when done twice."""
        if self._own >= 0:
            os.close(self._own)
            self._own = -1
        if self._cached is not None and self._descriptors:
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
    """All of an object that is complete in one file: the quick case of `seal`, for small ones.

    Counts as a use. One that nobody used lately is opened as its row of the index describes it,
    without becoming an object in memory: 30 µs instead of 100. Should it leave the cache while it
    is being sent, its bytes do not count until then. None means to look with `BlockStore.get`.
    Raises CacheError.
    """
    with table.lock:
        if key not in table.live:
            return _seal_unloaded(table, key, size)
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


def _seal_unloaded(table: FileTable, key: bytes, size: int) -> SealedRange | None:
    """An object that is not in memory, if its file looks as its row says."""
    file_id = FileId(key, 0)
    if key in table.fresh or file_id in table.removed:
        return None
    rows = table.index.rows_of(key)
    if len(rows) != 1 or rows[0].segment or rows[0].size != size or not rows[0].complete:
        return None
    row = rows[0]
    if row.blocks is None or row.generation != table.generation:
        return None
    blocks = block_count(size, table.block_bytes)
    present, sums = unpack_blocks(row.blocks, blocks)
    fd = _open_as_described(table, row) if present.bit_count() == blocks else -1
    if fd < 0:
        return None
    table.policy.touch(file_id)
    table.index.apply_many_touches()
    sealed = SealedRange(None)
    sealed._own = fd
    sealed.spans.append(FileSpan(fd, 0, size))
    sealed.sums = sums
    return sealed


def _open_as_described(table: FileTable, row: FileRow) -> int:
    """The descriptor of a row's file; -1 when it is not there or looks otherwise."""
    tier = next((tier for tier in table.tiers if tier.id == row.tier), None)
    if tier is None:
        return -1
    name = row.key.hex()
    try:
        fd = os.open(f"{name[:2]}/{name}", os.O_RDONLY | FILE_FLAGS, dir_fd=tier.directory.objects)
    except OSError:  # gone, or no descriptors left: the long way says which
        return -1
    facts = os.fstat(fd)
    if facts.st_size == row.size and stamp_of(facts) == Stamp(row.ino, row.ctime, row.mtime):
        return fd
    os.close(fd)
    return -1
