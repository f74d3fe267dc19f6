"""`load`: metadata first, then the files that the patterns mean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from fluidpy.client.protocol import Message, encode
from fluidpy.errors import CacheError, FluidpyError
from fluidpy.storage.under_storage import Kind, is_volatile
from fluidpy.worker.attached_dataset import SETTLED_SECONDS
from fluidpy.worker.load import Load, LoadCounts
from fluidpy.worker.load_plan import LoadPlan, LoadRoot, Share, ranges_of
from fluidpy.worker.path_patterns import compile_patterns, is_glob, normalise, outermost, root_of
from fluidpy.worker.requests import Answer, Progress, Reply, integer, texts

if TYPE_CHECKING:
    from fluidpy.namespace.metadata_load import MetadataProgress
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.session import Session

_log = logging.getLogger(__name__)

COUNTED_A_TURN: Final = 4096
"""Files counted before the loop looks at its other work."""

FAILURES_BYTES: Final = 96 * 1024
"""JSON of the failures named in the answer; below the protocol's longest message."""


def load(session: Session, request: Message, progress: Progress) -> Answer:
    """`load`: paths and globs (none: everything); progress answers, then counts and failures.

    `gently` brings metadata only, with rests between requests, and counts nothing.
    """
    dataset = session.dataset(request)
    patterns = [normalise(path) for path in texts(request, "paths")] or [""]
    replicas = integer(request, "replicas") if "replicas" in request else 0
    owned, peers = bool(request.get("owned")), dataset.peers
    if bool(request.get("gently")):
        return _list_gently(dataset, patterns, progress)
    share = peers.share(replicas) if owned and peers is not None else None
    return _load(session, dataset, patterns, bool(request.get("metadata_only")), share, progress)


async def _list_gently(dataset: AttachedDataset, patterns: list[str], progress: Progress) -> Reply:
    counts = LoadCounts()
    plan = LoadPlan(dataset.namespace.reader, patterns)
    await _find(dataset, patterns, plan, counts, progress, gently=True)
    return Reply({**counts.to_wire(), "omitted": dict(counts.omitted), "failures": _listed(counts)})


async def _load(
    session: Session,
    dataset: AttachedDataset,
    patterns: list[str],
    metadata_only: bool,
    share: Share | None,
    progress: Progress,
) -> Reply:
    counts = LoadCounts()
    plan = LoadPlan(dataset.namespace.reader, patterns)
    await _find(dataset, patterns, plan, counts, progress)
    volatile = await _count(dataset, plan, share, counts, progress)
    if not metadata_only:
        if volatile:
            await _settle(dataset, plan, volatile)
        await Load(dataset, session.worker.fills, plan, counts, share).run(progress)
        await _count_evicted(dataset, plan, share, counts)
        _flush(dataset)
    return Reply({**counts.to_wire(), "omitted": dict(counts.omitted), "failures": _listed(counts)})


async def _count(
    dataset: AttachedDataset,
    plan: LoadPlan,
    share: Share | None,
    counts: LoadCounts,
    progress: Progress,
) -> set[int]:
    """Counts the files; the folders in which some changed so lately that they cannot be kept.

    A glob that no file matches is a failure, as a path that is not there is one.
    """
    volatile: set[int] = set()
    failed = {path for path, _ in counts.failures}
    unmatched = {p: compile_patterns([p]) for p in plan.patterns if is_glob(p) and p not in failed}
    for number, (path, entry) in enumerate(plan.walk(), 1):
        for pattern in [p for p, wanted in unmatched.items() if wanted.fullmatch(path)]:
            del unmatched[pattern]
        for start, end in ranges_of(share, dataset, entry):
            counts.files += start == 0
            counts.bytes += end - start
        if is_volatile(entry.version):
            volatile.add(entry.parent)
        if number % COUNTED_A_TURN == 0:
            progress(counts.to_wire())
            await asyncio.sleep(0)
    for pattern in unmatched:
        counts.fail(pattern, "no file matches. Correct it; [*] in it stands for a plain *.")
    return volatile


async def _settle(dataset: AttachedDataset, plan: LoadPlan, folders: set[int]) -> None:
    """Waits until files that changed just now have settled, and looks at their folders again.

    Those that changed meanwhile stay volatile; the load names them. A folder that cannot be listed
    keeps its entries.
    """
    await asyncio.sleep(SETTLED_SECONDS)
    for folder in folders:
        with contextlib.suppress(FluidpyError):  # its files are then named as not kept
            await dataset.namespace.ensure_listed(folder, SETTLED_SECONDS)
    lookup = dataset.namespace.reader.lookup
    for path, entry in list(plan.files.values()):
        if is_volatile(entry.version):
            del plan.files[entry.id]
            entry = lookup(entry.parent, entry.name) or entry
            plan.files[entry.id] = (path, entry)


async def _find(
    dataset: AttachedDataset,
    patterns: list[str],
    plan: LoadPlan,
    counts: LoadCounts,
    progress: Progress,
    *,
    gently: bool = False,
) -> None:
    """Brings the metadata of all that the patterns mean into the catalog."""
    folders: dict[str, int] = {}
    for pattern in patterns:
        path = root_of(pattern) if is_glob(pattern) else pattern
        if path in folders:
            continue
        try:
            entry = await dataset.follow(path)
        except FluidpyError as error:
            counts.fail(pattern, str(error))
            continue
        if entry.kind == Kind.DIRECTORY:
            folders[path] = entry.id
        elif entry.kind == Kind.FILE and not is_glob(pattern):
            plan.files[entry.id] = (path, entry)

    def report(seen: MetadataProgress) -> None:
        progress({**counts.to_wire(), "files": seen.files, "bytes": seen.bytes})

    for path in outermost(folders):
        try:
            loaded = await dataset.namespace.load_metadata(path, report, gently=gently)
            counts.omitted.update(loaded.omitted)
        except FluidpyError as error:
            counts.fail(path or "/", str(error))
        plan.roots.append(LoadRoot(folders[path], path))
    roots = [root.path for root in plan.roots]
    for number, (path, _) in list(plan.files.items()):
        if any(root == "" or path.startswith(root + "/") for root in roots):
            del plan.files[number]


async def _count_evicted(
    dataset: AttachedDataset, plan: LoadPlan, share: Share | None, counts: LoadCounts
) -> None:
    """Files that left again to make room for later ones do not count as done."""
    if share is None and dataset.peers is not None and dataset.peers.placement is not None:
        return  # what others keep is not to be kept here
    quota = sum(tier.quota_bytes * 0.8 for tier in dataset.store.usage())
    if counts.bytes < quota:
        return
    missing = 0
    for number, (_, entry) in enumerate(plan.walk()):
        if number % COUNTED_A_TURN == COUNTED_A_TURN - 1:
            await asyncio.sleep(0)
        ranges = ranges_of(share, dataset, entry)
        if not entry.size or not ranges:
            continue
        cached = dataset.store.peek(dataset.object_key(entry))
        if cached is None or (
            not cached.complete and any(cached.missing(*each) for each in ranges)
        ):
            missing += 1
    gone = missing - counts.failed
    if gone > 0:
        counts.done_files -= gone
        what = "1 file" if gone == 1 else f"{gone} files"
        counts.fail("/", f"{what} left the cache again: it is smaller than the load", gone)


def _flush(dataset: AttachedDataset) -> None:
    """Writes the index; a failure fails no load, since the worker tries on."""
    try:
        dataset.store.flush()
    except CacheError as error:
        dataset.counters.count_error(type(error).__name__)
        _log.warning("Dataset %s: loaded, and not yet indexed: %s", dataset.definition.key, error)


def _listed(counts: LoadCounts) -> list[list[str]]:
    """The failures, as many as fit in one message."""
    listed: list[list[str]] = []
    size = 0
    for path, message in counts.failures:
        size += len(encode([path, message])) + 1
        if size > FAILURES_BYTES:
            break
        listed.append([path, message])
    return listed
