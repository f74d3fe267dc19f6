"""`usage`, `cache_list`, `pin`, `evict`, `scrub`: what is cached of a Dataset, and steering it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fluidpy.client.protocol import Message, encode
from fluidpy.errors import PathNotFoundError, UsageError
from fluidpy.storage.under_storage import Kind
from fluidpy.worker.path_patterns import normalise
from fluidpy.worker.requests import Answer, Progress, Reply, integer, text
from fluidpy.worker.tree_walk import files_below, retired_files_below

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.store import BlockStore
    from fluidpy.namespace.catalog import Entry
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.session import Session

LISTED_BYTES: Final = 96 * 1024
"""JSON of one `cache_list` answer; below the protocol's longest message."""

FILES_AN_ANSWER: Final = 100_000
"""Files looked up for one `cache_list` answer: about a second's work."""

FILES_A_TURN: Final = 256
"""Files looked up in the store before the loop looks at its other work."""

SCRUB_BYTES: Final = 64 * 1024 * 1024
"""Bytes verified before a `scrub` looks whether it is still wanted."""


class FoundFile(NamedTuple):
    """A file of a Dataset and what the store has of it."""

    path: str
    entry: Entry
    key: bytes
    cached: CachedObject | None


def usage(session: Session, request: Message, _: Progress) -> Answer:
    """`usage`: the tiers that a Dataset uses (`dataset`), or all."""
    if "dataset" in request:
        stores = [session.dataset(request).store]
    else:
        stores = list(session.worker.stores)
    return _usage(stores)


async def _usage(stores: list[BlockStore]) -> Reply:
    rows: list[Message] = []
    for store in stores:
        numbers = await asyncio.to_thread(_objects_by_tier, store)
        for row in tier_rows(store):
            rows.append({**row, "objects": numbers.get(row["directory"], 0)})
    return Reply({"tiers": rows})


def _objects_by_tier(store: BlockStore) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for status in store.objects():
        for tier in status.tiers:
            numbers[tier] = numbers.get(tier, 0) + 1
    return numbers


def tier_rows(store: BlockStore) -> list[Message]:
    """One row a tier, in bytes."""
    return [
        {
            "directory": tier.directory,
            "medium": tier.medium,
            "quota_bytes": tier.quota_bytes,
            "used_bytes": tier.used,
            "kept_bytes": tier.kept,
            "reserved_bytes": tier.reserved,
            "unlinked_bytes": tier.unlinked,
        }
        for tier in store.usage()
    ]


def cache_list(session: Session, request: Message, _: Progress) -> Answer:
    """`cache_list`: files at or below `path` that have cached bytes, in the order of the tree.

    As many as fit in one message, after the path `after`. `truncated` says that there may be more:
    ask again with the answer's `after`.
    """
    after = text(request, "after") if "after" in request else ""
    return _cache_list(session.dataset(request), text(request, "path"), normalise(after))


async def _cache_list(dataset: AttachedDataset, path: str, after: str) -> Reply:
    rows: list[Message] = []
    size = looked_at = 0
    async for file in _files(dataset, path, after):
        looked_at += 1
        if file.cached is not None and file.cached.present_bytes:
            row = _row(file, file.cached)
            size += len(encode(row)) + 1
            if size > LISTED_BYTES:
                return Reply({"objects": rows, "truncated": True, "after": after})
            rows.append(row)
        after = file.path
        if looked_at >= FILES_AN_ANSWER:
            return Reply({"objects": rows, "truncated": True, "after": after})
    return Reply({"objects": rows, "truncated": False, "after": after})


def _row(file: FoundFile, cached: CachedObject) -> Message:
    tiers = {f.tier.definition.directory for f in cached.files() if f.tier is not None}
    return {
        "path": file.path,
        "size": file.entry.size,
        "cached_bytes": min(cached.present_bytes, file.entry.size),
        "complete": cached.complete,
        "pinned": cached.pinned,
        "tier": ", ".join(sorted(tiers)),
    }


def pin(session: Session, request: Message, _: Progress) -> Answer:
    """`pin`: files at or below `path` are kept from eviction, or (`on` false) no longer.

    Files that are not cached yet are pinned once they are. `objects` counts those for which that is
    new.
    """
    return _pin(session.dataset(request), text(request, "path"), bool(request.get("on", True)))


async def _pin(dataset: AttachedDataset, path: str, on: bool) -> Reply:
    objects = 0
    async for file in _files(dataset, path):
        objects += dataset.store.pin(file.key, on)
    return Reply({"objects": objects})


def evict(session: Session, request: Message, _: Progress) -> Answer:
    """`evict`: drops what is cached at or below `path`, of earlier versions, too.

    Those would be the last to be missed, and nobody could name them otherwise.
    """
    return _evict(session.dataset(request), text(request, "path"))


async def _evict(dataset: AttachedDataset, path: str) -> Reply:
    objects = freed = 0
    async for file in _files(dataset, path):
        if gone := dataset.store.evict(file.key):
            objects += 1
            freed += gone
    retired = retired_files_below(dataset.namespace.reader, normalise(path))
    for number, entry in enumerate(retired):
        if number % FILES_A_TURN == FILES_A_TURN - 1:
            await asyncio.sleep(0)
        try:
            gone = dataset.store.evict(dataset.object_key(entry))
        except PathNotFoundError:  # the mount that it came from is gone
            continue
        if gone:
            objects += 1
            freed += gone
    return Reply({"objects": objects, "bytes": freed})


async def _files(dataset: AttachedDataset, path: str, after: str = "") -> AsyncIterator[FoundFile]:
    """The files at or below a path that the catalog knows, with what the store has of each.

    `after` is the path of the file to go on behind, "" to begin.
    """
    entry, own = await dataset.resolve(path), normalise(path)
    prefix = f"{own}/" if own else ""
    if after and not after.startswith(prefix):
        raise UsageError(f"{after!r} does not lie in {path!r}", cure="Go on where it was cut off.")
    files: Iterator[tuple[str, Entry]] = iter(())
    if entry.kind == Kind.DIRECTORY:
        files = files_below(dataset.namespace.reader, entry.id, prefix, after[len(prefix) :])
    elif entry.kind == Kind.FILE:
        files = iter([(own, entry)])
    for number, (file_path, file) in enumerate(files):
        if number % FILES_A_TURN == FILES_A_TURN - 1:
            await asyncio.sleep(0)
        key = dataset.object_key(file)
        yield FoundFile(file_path, file, key, dataset.store.peek(key))


def scrub(session: Session, request: Message, progress: Progress) -> Answer:
    """`scrub`: verifies up to `bytes` of a Dataset's store, going on where the last one ended."""
    store = session.dataset(request).store
    budget = integer(request, "bytes") if "bytes" in request else 1 << 62
    return _scrub(store, budget, progress)


async def _scrub(store: BlockStore, budget: int, progress: Progress) -> Reply:
    result: dict[str, Any] = {"files": 0, "bytes": 0, "damaged": 0, "finished": False}
    while result["bytes"] < budget and not result["finished"]:
        step = min(SCRUB_BYTES, budget - result["bytes"])
        report = await asyncio.to_thread(store.scrub, step)
        result["files"] += report.files
        result["bytes"] += report.read_bytes
        result["damaged"] += len(report.damaged)
        result["finished"] = report.finished
        progress(dict(result))
        if not (report.files or report.read_bytes):
            break
    return Reply(result)
