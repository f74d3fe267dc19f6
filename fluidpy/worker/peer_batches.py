"""The objects of a batch: what came of each, its frame, and letting go of them."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence

from fluidpy.cluster import peer_protocol as protocol
from fluidpy.errors import FluidpyError, PeerError
from fluidpy.worker.peer_objects import ServedRange
from fluidpy.worker.peer_sending import Chunk
from fluidpy.worker.peer_statuses import late, status_of

_log = logging.getLogger(__name__)


def frame_of(each: ServedRange | FluidpyError) -> Chunk:
    """One object of a batch as a chunk: its frame and its bytes, or its error."""
    if isinstance(each, FluidpyError):
        body = protocol.error_body(each)
        return protocol.FRAME.pack(status_of(each), 0, 0, len(body)) + body, ()
    sums = struct.pack(f"!{len(each.sums)}I", *each.sums)
    head = protocol.FRAME.pack(protocol.OK, each.from_source, len(each.sums), each.length)
    return head + sums, each.spans


def origin_of(served: ServedRange) -> str:
    """FROM_CACHE or FROM_SOURCE."""
    return protocol.FROM_SOURCE if served.from_source else protocol.FROM_CACHE


def outcome_of(task: asyncio.Task[ServedRange]) -> ServedRange | FluidpyError:
    """What a task that has ended brought."""
    if task.cancelled():
        return late()
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, FluidpyError):
        return error
    _log.error("an object for a peer failed in a way it should not", exc_info=error)
    return PeerError("the other worker failed", cure="Its log has the cause; read elsewhere.")


def close_all(opened: Sequence[ServedRange | FluidpyError]) -> None:
    """Lets go of what was opened."""
    for each in opened:
        if isinstance(each, ServedRange):
            each.close()


def close_result(task: asyncio.Task[ServedRange]) -> None:
    """Lets go of what a task brought that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
