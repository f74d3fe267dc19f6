"""Small objects that come whole: written, summed and noted by one call, without state of their own.

A load of many small objects would otherwise make, for each one, an object in memory, a sparse file
and a dozen calls. Here the room is reserved before the fetch, and the bytes that came become a file
and a row that waits for the index, nothing else. Whoever asks for such an object later finds it as
any other (`FileTable.fresh`).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fluidpy.cache.cache_file import (
    FILE_FLAGS,
    Tier,
    stamp_of,
    storage_failure,
    sums_of,
    write_all,
)
from fluidpy.cache.eviction import FileId, noted_use
from fluidpy.cache.index import FileRow, pack_blocks
from fluidpy.cache.index_schema import CHUNK_BLOCKS
from fluidpy.cache.presence import allocated_bytes, block_count, range_mask

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.file_table import FileTable
    from fluidpy.cache.room import RoomMaker

WHOLE_BYTES: Final = 256 * 1024
"""Largest object that is written whole, in the caller's thread: a tenth of a millisecond."""

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE_FLAGS


class WholePlace(NamedTuple):
    """Room for one object that is on its way: `need` bytes reserved in `tier`."""

    key: bytes
    size: int
    tier: Tier
    need: int
    copy: bool


class WholeFiles:
    """The store's short way for objects of `limit` bytes at most. Thread-safe, short calls."""

    def __init__(
        self,
        table: FileTable,
        room: RoomMaker,
        object_of: Callable[[bytes, int], CachedObject],
        smallest_quota: int,
    ) -> None:
        """`object_of` makes or finds an object; `smallest_quota` is that of the tiers, in bytes."""
        self._table = table
        self._room = room
        self._object_of = object_of
        block = table.block_bytes
        self.limit = min(WHOLE_BYTES, CHUNK_BLOCKS * block, max(smallest_quota // 8, block))
        """Larger objects, in bytes, go the long way: in segments, or with rows of chunks."""

    def absent(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` of which nothing is known. Raises CacheError."""
        table = self._table
        with table.lock:
            known = table.index.known(keys)
            return {
                key for key in keys if not (key in known or key in table.live or key in table.fresh)
            }

    def reserve(self, key: bytes, size: int, copy: bool = False) -> WholePlace:
        """Room for an object; end it with `keep` or `give_back`. May evict others.

        For a `copy` of what another worker keeps, only copies. Raises CacheFullError.
        """
        table = self._table
        blocks = range_mask(0, block_count(size, table.block_bytes))
        need = allocated_bytes(blocks, size, table.block_bytes)
        with table.lock:
            tier = self._room.tier_for(need, copy=copy)
            tier.account.reserve(need)
        if table.gone:
            table.announce()
        return WholePlace(key, size, tier, need, copy)

    def give_back(self, place: WholePlace) -> None:
        """Ends a reservation of which nothing came."""
        with self._table.lock:
            place.tier.account.give_back(place.need)

    def keep(self, place: WholePlace, data: Any) -> None:
        """Writes all bytes of the object and queues its row; the reservation ends either way.

        Raises CacheFullError, CacheError: nothing is kept then.
        """
        view = memoryview(data).cast("B")
        if len(view) != place.size:
            self.give_back(place)
            raise ValueError(f"{len(view)} bytes for an object of {place.size}")
        table = self._table
        with table.lock:
            unknown = place.key not in table.live and place.key not in table.fresh
            written = False
            try:
                written = unknown and self._write_new(place, view)
            finally:
                if not written:
                    place.tier.account.give_back(place.need)
            if not written:
                self._keep_in(self._object_of(place.key, place.size), view, place.copy)

    def _write_new(self, place: WholePlace, view: memoryview) -> bool:
        """Makes the file and its row; False when its name is taken. Raises CacheError."""
        table, key, tier = self._table, place.key, place.tier
        file_id = FileId(key, 0)
        if file_id in table.removed:
            table.flush()  # the index must not describe the old file once the new one is there
        name = key.hex()
        name = f"{name[:2]}/{name}"
        parent = tier.directory.objects
        try:
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except (FileExistsError, FileNotFoundError):
            return False
        except OSError as error:
            raise storage_failure(name, error) from error
        try:
            write_all(descriptor, view, 0)
            stamp = stamp_of(os.fstat(descriptor))
        except OSError as error:
            os.unlink(name, dir_fd=parent)
            raise storage_failure(name, error) from error
        finally:
            os.close(descriptor)
        sums = array("I", sums_of(view, table.block_bytes))
        blocks = pack_blocks(range_mask(0, len(sums)), sums)
        tier.account.keep(place.need)
        used = noted_use(table.policy.add(file_id, tier.id, place.copy), place.copy)
        table.fresh[key] = FileRow(
            key, 0, place.size, 0, tier.id, place.need, 1, *stamp, table.generation,
            int(table.index.is_pinned(key)), used, blocks,
        )  # fmt: skip
        return True

    def _keep_in(self, found: CachedObject, view: memoryview, copy: bool) -> None:
        """The long way, for an object that somebody opened while its bytes were on their way."""
        for start, end in found.missing(0, found.size):
            found.reserve(start, end, copy)
            try:
                found.write(start, view[start:end])
                found.commit(start, end)
            except BaseException:
                found.abandon(start, end)
                raise
