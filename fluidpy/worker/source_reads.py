"""Bringing the bytes of one part from its source: whole, or piece by piece into the cache file."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

from fluidpy.errors import SourceError, SourceTimeoutError
from fluidpy.storage.under_storage import StreamingStorage

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.storage.under_storage import Buffer
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Part

PIECES_BYTES: Final = 1024 * 1024
"""Parts from this size on come in pieces where the source can give them."""

PIECE_BYTES: Final = 512 * 1024
"""A piece: what was received is written while the processor still has it in its cache. A larger
block makes larger pieces, since the store takes whole blocks."""

GUARD_SECONDS: Final = 5.0
"""How much longer than its own deadline a storage's read may take before it is given up here."""

_Result = TypeVar("_Result")


def comes_in_pieces(fill: ObjectFill, part: Part) -> bool:
    """Whether to `stream_part` rather than to `read_part`."""
    storage = fill.located.storage
    return (
        part.end - part.start >= PIECES_BYTES
        and isinstance(storage, StreamingStorage)
        and storage.gives_pieces
    )


async def stream_part(fill: ObjectFill, part: Part, cached: CachedObject) -> None:
    """Fetches a reserved part into the cache file and commits it.

    Raises SourceError, and CacheError when the disk did not take it.
    """
    located, storage = fill.located, fill.located.storage
    assert isinstance(storage, StreamingStorage)  # `comes_in_pieces`
    piece = max(fill.table.block_bytes, PIECE_BYTES)
    await _in_time(
        fill,
        part,
        storage.read_pieces(
            located.path, part.start, part.end, located.entry.version, piece, cached.write
        ),
    )
    cached.commit(part.start, part.end)


async def read_part(fill: ObjectFill, part: Part) -> Buffer:
    """The bytes of a part. Raises SourceError, also when they are not as many as asked for."""
    located = fill.located
    data = await _in_time(
        fill,
        part,
        located.storage.read(located.path, part.start, part.end, located.entry.version),
    )
    length = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
    if length != part.end - part.start:
        raise SourceError(
            f"{fill.describe()}: the source gave {length} bytes of {part.end - part.start}",
            cure="Refresh the Dataset's metadata and read again.",
        )
    return data


async def _in_time(fill: ObjectFill, part: Part, read: Awaitable[_Result]) -> _Result:
    """The result of a read that the table's watch cancels once `part.ends_by` has passed."""
    seconds = fill.mount_key.limits.deadline_seconds + GUARD_SECONDS
    part.ends_by = asyncio.get_running_loop().time() + seconds
    try:
        result = await read
    except asyncio.CancelledError as error:
        if part.ends_by > 0:
            raise
        raise SourceTimeoutError(
            f"{fill.describe()}: the source did not answer in {seconds:.0f} s",
            cure="Look whether the source is up; try again.",
        ) from error
    part.ends_by = math.inf
    return result
