"""`open`, `read`: the operations that a training job waits for.

Both answer in the reader callback when all they need is at hand. A passed fd of a one-file object
stays right as long as the store has not replaced the file (`file_serial`): after that, reads pass
the new file's fd.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from fluidpy.client.protocol import Message, entry_to_wire
from fluidpy.errors import (
    CacheError,
    IsADirectoryInDatasetError,
    PathNotFoundError,
)
from fluidpy.storage.under_storage import Kind, is_volatile, may_be_kept
from fluidpy.worker.handles import Handle
from fluidpy.worker.passed_bytes import BytesLeftError, empty_fd, memfd_of
from fluidpy.worker.read_ahead import NOTHING, ReadAhead
from fluidpy.worker.requests import Answer, Progress, Reply, deadline_seconds, integer, malformed

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.namespace.catalog import Entry
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Part
    from fluidpy.worker.session import Session

VERIFY_BYTES: Final = 256 * 1024 * 1024
"""Bytes verified before an open in doubt looks whether it is still wanted; a multiple of blocks."""

FETCHES: Final = 4
"""How often bytes are fetched that leave the cache before a reader has them: somebody evicts."""

DEADLINE_SHARE: Final = 0.95
"""A read gives up after this share of the request's deadline, so that its own error, which names
mount and path, comes before the general one."""


def open_file(session: Session, request: Message, _: Progress) -> Answer:
    """`open`: a handle, the entry, and the cache file's fd."""
    dataset = session.dataset(request)
    path = request.get("path")
    if path is None:
        entry = dataset.namespace.reader.get(integer(request, "entry"))
        if entry is None:
            raise PathNotFoundError(
                f"Dataset {dataset.definition.key} has no such entry",
                cure="Look the path up again.",
            )
    elif isinstance(path, str):
        entry = dataset.fresh_entry(path)
        if entry is None or entry.kind == Kind.SYMLINK or is_volatile(entry.version):
            return _open_path(session, dataset, path)
    else:
        raise malformed("path", "a text", path)
    return _open_entry(session, dataset, entry)


async def _open_path(session: Session, dataset: AttachedDataset, path: str) -> Reply:
    entry = await dataset.settled(await dataset.follow(path))
    answer = _open_entry(session, dataset, entry)
    return answer if isinstance(answer, Reply) else await answer


def _open_entry(session: Session, dataset: AttachedDataset, entry: Entry) -> Answer:
    if entry.kind != Kind.FILE:
        name = repr(os.fsdecode(entry.name)) if entry.name else "the root"
        kind = "folder" if entry.kind == Kind.DIRECTORY else "symbolic link"
        raise IsADirectoryInDatasetError(
            f"{name} is a {kind} of Dataset {dataset.definition.key}, not a file",
            cure="Open a file, or list the folder.",
        )
    session.handles.check_room()
    dataset.counters.opens += 1
    dataset.settle_soon(entry)
    key = dataset.object_key(entry)
    cached = _cached_object(dataset, key, entry)
    handle = Handle(session.worker.next_handle(), dataset, entry, key, cached)
    session.handles.add(handle)
    if cached is not None and cached.suspect:
        return _verified(session, handle, cached)
    return _opened(session, handle, cached, checked=True)


async def _verified(session: Session, handle: Handle, cached: CachedObject) -> Reply:
    """Verifies in a thread what the last stop left in doubt, before its fd is passed."""
    for start in range(0, cached.size, VERIFY_BYTES):
        await asyncio.to_thread(cached.verify, start, min(start + VERIFY_BYTES, cached.size))
    return _opened(session, handle, cached)


def _cached_object(dataset: AttachedDataset, key: bytes, entry: Entry) -> CachedObject | None:
    """The object in the store; None when it cannot be kept there."""
    if not may_be_kept(entry.version) or entry.size == 0:
        return None
    try:
        return dataset.cached_object(key, entry.size)
    except CacheError as error:
        dataset.counters.count_error(type(error).__name__)
        return None


def _opened(
    session: Session, handle: Handle, cached: CachedObject | None, *, checked: bool = False
) -> Reply:
    """The answer to an open; `checked`: the store has just looked at the cache file."""
    entry = handle.entry
    ok: Message = {
        "handle": handle.number,
        "entry": entry_to_wire(entry),
        "complete": entry.size == 0,
        "segmented": False,
    }
    if entry.size == 0:
        return Reply(ok, (empty_fd(),))
    complete = cached is not None and cached.complete
    if not complete:
        session.fill_of(handle)
    if cached is None:
        return Reply(ok)
    if not complete:
        handle.read_ahead = ReadAhead(entry.size, handle.dataset.largest_window)
    if cached.segment_bytes:
        ok["segmented"] = True
        return Reply(ok)
    try:
        fd, _, _ = cached.fd_for(0, checked=checked and complete)
    except CacheError as error:
        handle.dataset.counters.count_error(type(error).__name__)
        return Reply(ok)
    # Asked for its fd, the store may have found the file cut or removed, and made it anew, empty.
    ok["complete"] = complete and cached.complete
    handle.serial = cached.file_at(0).serial
    return Reply(ok, (fd,))


def read(session: Session, request: Message, _: Progress) -> Answer:
    """`read`: makes a range of an open file readable by the client.

    An answer without an fd speaks of the one that the client has: the range is there, and on to
    the offset `until`, or all of the file (`complete`).
    """
    handle = session.handles.get(request.get("handle"))
    start, end = integer(request, "start"), integer(request, "end")
    end = min(end, handle.entry.size)
    counters, cached = handle.dataset.counters, handle.cached
    if start >= end:
        return Reply({"fd": False, "complete": False, "length": 0})
    if cached is not None and (
        cached.complete or not (cached.suspect or cached.missing(start, end))
    ):
        counters.hits += 1
        counters.bytes_from_cache += end - start
        _fetch_ahead(session, handle, start, end)
        if (passed := _passed(handle, start, end)) is not None:
            return passed
    fill = session.fill_of(handle)
    if _fetch(session, handle, fill, start, end):
        counters.misses += 1
    else:
        counters.waits += 1
    return _when_there(handle, fill, start, end, deadline_seconds(request))


def _fetch(session: Session, handle: Handle, fill: ObjectFill, start: int, end: int) -> bool:
    """Starts what the reader waits for (true: a request was made), then what is planned ahead.

    A small file is planned whole at its first read: then that is what is fetched, as one.
    """
    plan = handle.plan(start, end, session.worker.fills.ahead_allowance)
    launched = fill.launched
    if plan.start <= start and end <= plan.end:
        start, end, plan = plan.start, plan.end, NOTHING
    fill.parts(start, end)
    asked = fill.launched > launched
    if plan.size > 0:
        fill.parts(plan.start, plan.end, owner=handle.number, ahead=True)
    return asked


def _fetch_ahead(session: Session, handle: Handle, start: int, end: int) -> None:
    plan = handle.plan(start, end, session.worker.fills.ahead_allowance)
    if plan.size > 0:
        fill = session.fill_of(handle)
        fill.parts(plan.start, plan.end, owner=handle.number, ahead=True)


async def _when_there(
    handle: Handle, fill: ObjectFill, start: int, end: int, seconds: float
) -> Reply:
    deadline = asyncio.get_running_loop().time() + seconds * DEADLINE_SHARE
    cached = handle.cached
    if cached is not None and cached.suspect:
        await asyncio.to_thread(cached.verify, start, end)
    for _ in range(FETCHES):
        unkept = await fill.ensure(start, end, deadline)
        if cached is None or unkept:
            try:
                return await _in_memory(handle, start, end, unkept)
            except BytesLeftError:
                continue
        if (passed := _passed(handle, start, end)) is not None:
            return passed
    raise CacheError(
        f"cached bytes of {os.fsdecode(handle.entry.name)!r} left as fast as they came",
        cure="Read again; look who removes or cuts files of the cache.",
    )


async def _in_memory(handle: Handle, start: int, end: int, unkept: list[Part]) -> Reply:
    copying = asyncio.ensure_future(asyncio.to_thread(memfd_of, handle.cached, start, end, unkept))
    try:
        fd = await asyncio.shield(copying)
    except asyncio.CancelledError:  # the client is gone; the thread goes on to its end
        copying.add_done_callback(_close_copy)
        raise
    return Reply({"offset": 0, "length": end - start, "complete": False}, (fd,), owned=True)


def _close_copy(copying: asyncio.Future[int]) -> None:
    """Closes the file that nobody waits for any more; that it could not be made is no loss."""
    if not copying.cancelled() and copying.exception() is None:
        os.close(copying.result())


def _passed(handle: Handle, start: int, end: int) -> Reply | None:
    """Bytes that `missing` has just found: in the fd the client has, or in one that goes along.

    None when they got lost: asked for its fd, the store found the cache file cut or removed.
    """
    cached = handle.cached
    assert cached is not None  # only called for what the store keeps
    if handle.serial and cached.file_at(0).serial == handle.serial:
        if cached.complete:
            return Reply({"fd": False, "complete": True})
        until = _promised(handle, end)
        return Reply({"fd": False, "complete": False, "until": until})
    fd, offset, length = cached.fd_for(start)
    end = min(end, start + length)
    if cached.missing(start, end):
        return None
    ok: Message = {"offset": offset, "length": end - start, "complete": False}
    if cached.segment_bytes and cached.complete:  # all of the segment may be read from its fd
        ok["segment"] = [start - offset, start + length]
    return Reply(ok, (fd,))


def _promised(handle: Handle, end: int) -> int:
    """Up to where a sequential reader may go on in its fd without asking: whole blocks, or `end`.

    A message for each megabyte would cost the worker as much as fetching it does.
    """
    cached, ahead = handle.cached, handle.read_ahead
    assert cached is not None  # as in `_passed`
    if ahead is None or cached.suspect or (wanted := ahead.promise(end)) <= 0:
        return end
    gaps = cached.missing(end, end + wanted)
    until = gaps[0][0] if gaps else end + wanted
    if until < cached.size:
        until -= until % cached.block_bytes
    if until <= end:
        return end
    handle.dataset.counters.bytes_from_cache += until - end
    ahead.promised(end, until)
    return until
