"""Bringing the bytes of one part from its source: whole, or piece by piece into the cache file."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar

from fluidpy.errors import SourceError, SourceTimeoutError

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.storage.under_storage import Buffer, StreamingStorage, UnderStorage
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Guarded, MountLimits, Part

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
    return part.end - part.start >= PIECES_BYTES and _gives_pieces(fill.located.storage)


def _gives_pieces(storage: UnderStorage) -> TypeGuard[StreamingStorage]:
    # Not isinstance: of a protocol that takes longer than asking for a piece.
    return bool(getattr(storage, "gives_pieces", False))


async def stream_part(fill: ObjectFill, part: Part, cached: CachedObject) -> None:
    """Fetches a reserved part into the cache file and commits it.

    Raises SourceError, and CacheError when the disk did not take it.
    """
    located, storage = fill.located, fill.located.storage
    assert _gives_pieces(storage)  # `comes_in_pieces`
    piece = max(fill.table.block_bytes, PIECE_BYTES)
    await _in_time(
        located,
        fill.mount_key.limits,
        part,
        storage.read_pieces(
            located.path, part.start, part.end, located.entry.version, piece, cached.write
        ),
    )
    cached.commit(part.start, part.end)


async def read_part(fill: ObjectFill, part: Part) -> Buffer:
    """The bytes of a part. Raises SourceError, also when they are not as many as asked for."""
    return await read_range(fill.located, part.start, part.end, fill.mount_key.limits, part)


async def read_range(
    located: Located, start: int, end: int, limits: MountLimits, guarded: Guarded
) -> Buffer:
    """The bytes `[start, end)` of an object, in the time that its mount allows.

    Raises SourceError, also when they are not as many as asked for.
    """
    read = located.storage.read(located.path, start, end, located.entry.version)
    data = await _in_time(located, limits, guarded, read)
    length = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
    if length != end - start:
        raise SourceError(
            f"{describe(located)}: the source gave {length} bytes of {end - start}",
            cure="Refresh the Dataset's metadata and read again.",
        )
    return data


def describe(located: Located) -> str:
    """An object as messages call it: mount and path."""
    return f"mount {located.mount.name!r}, {located.path!r}"


async def _in_time(
    located: Located, limits: MountLimits, guarded: Guarded, read: Awaitable[_Result]
) -> _Result:
    """The result of a read that the table's watch cancels once `guarded.ends_by` has passed."""
    seconds = limits.deadline_seconds + GUARD_SECONDS
    guarded.ends_by = asyncio.get_running_loop().time() + seconds
    try:
        result = await read
    except asyncio.CancelledError as error:
        if guarded.ends_by > 0:
            raise
        if guarded.task is not None:
            guarded.task.uncancel()
        raise SourceTimeoutError(
            f"{describe(located)}: the source did not answer in {seconds:.0f} s",
            cure="Look whether the source is up; try again.",
        ) from error
    finally:
        guarded.ends_by = math.inf
    return result
