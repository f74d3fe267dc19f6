"""Small objects read whole out of their cache files, many at a time, for whoever sends them on.

The index is asked for some dozens at once, and none becomes an object in memory. A file is read
only if it looks as it is described, and the receiver compares the sums, which were taken when the
bytes came from their source.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fluidpy.cache.cache_file import FILE_FLAGS, Stamp, Tier, stamp_of
from fluidpy.cache.eviction import FileId
from fluidpy.cache.index import unpack_blocks
from fluidpy.cache.presence import block_count

if TYPE_CHECKING:
    from fluidpy.cache.file_table import FileTable
    from fluidpy.cache.index import WholeRow


class WholeFile(NamedTuple):
    """A file with all bytes of an object, as it should look, and the crc32c of each block."""

    tier: Tier
    name: str
    size: int
    stamp: Stamp
    sums: Sequence[int]


def describe(table: FileTable, wanted: Sequence[tuple[bytes, int]]) -> list[WholeFile | None]:
    """The file of each object of `wanted` (key and size) that is complete in one file.

    Counts as a use. None means to look with `BlockStore.get`. May be called from any thread.
    Raises CacheError.
    """
    with table.lock:
        unloaded = [key for key, _ in wanted if not (key in table.live or key in table.fresh)]
        rows = table.index.whole_rows(unloaded) if unloaded else {}
        tiers = {tier.id: tier for tier in table.tiers}
        found: list[WholeFile | None] = []
        for key, size in wanted:
            row = rows.get(key)
            if row is not None:
                found.append(_of_row(table, row, size, tiers))
            else:
                found.append(_in_memory(table, key, size))
        table.index.apply_many_touches()
    return found


def read_whole(file: WholeFile, into: memoryview) -> bool:
    """Fills `into`, which is as long as the file; False when it is gone or looks otherwise."""
    try:
        fd = os.open(file.name, os.O_RDONLY | FILE_FLAGS, dir_fd=file.tier.directory.objects)
    except OSError:  # gone, or no descriptors left: the long way says which
        return False
    try:
        facts = os.fstat(fd)
        if facts.st_size != file.size or stamp_of(facts) != file.stamp:
            return False
        return os.preadv(fd, [into], 0) == file.size
    except OSError:  # a bad disk: as above
        return False
    finally:
        os.close(fd)


def _of_row(table: FileTable, row: WholeRow, size: int, tiers: dict[int, Tier]) -> WholeFile | None:
    """The file of an object that is not in memory, if its row says that all of it is right."""
    file_id = FileId(row.key, 0)
    tier = tiers.get(row.tier)
    if row.size != size or row.generation != table.generation or row.blocks is None:
        return None
    if tier is None or file_id in table.removed:
        return None
    blocks = block_count(size, table.block_bytes)
    present, sums = unpack_blocks(row.blocks, blocks)
    if present.bit_count() != blocks:
        return None
    table.policy.touch(file_id)
    name = row.key.hex()
    return WholeFile(tier, f"{name[:2]}/{name}", size, Stamp(row.ino, row.ctime, row.mtime), sums)


def _in_memory(table: FileTable, key: bytes, size: int) -> WholeFile | None:
    found = table.live.get(key)
    if found is None or found.segment_bytes or found.size != size:
        return None
    file = found.file_at(0)
    if file.tier is None or file.stamp is None or not file.complete:
        return None
    if not file.checked and file.generation != table.generation:
        return None
    if key in table.hot:
        table.hot.move_to_end(key)
    file.last_use = table.policy.touch(FileId(key, 0))
    return WholeFile(file.tier, file.name, size, file.stamp, file.checksums())
