"""What other workers of the pool may have of this one: ranges of objects, cached or fetched.

A request names an object by mount, path and version, so the catalog is not asked: an object that
nobody listed here is served as well. Fetching goes through the ordinary fills, so that readers here
and peers that want the same bytes wait for the same request to the source.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from fluidpy.cache.cache_file import READ_BYTES, sums_of
from fluidpy.cache.sealed_range import FileSpan, length_of, seal, seal_complete
from fluidpy.cluster.peer_protocol import MOST_SMALL_BYTES, PeerRequest, Presence, malformed
from fluidpy.errors import (
    CacheError,
    DatasetNotFoundError,
    PathNotFoundError,
    PeerAbsentError,
    PeerBusyError,
    PeerDefinitionError,
    SourceTimeoutError,
)
from fluidpy.namespace.cache_keys import CacheKeys
from fluidpy.namespace.catalog import Entry
from fluidpy.namespace.listing_flights import Located
from fluidpy.storage.under_storage import Kind, may_be_kept
from fluidpy.worker.passed_bytes import BytesLeftError, memfd_of
from fluidpy.worker.ready_frames import ReadyFrames

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.namespace.namespace import Namespace
    from fluidpy.telemetry.counters import Counters
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.datasets import Datasets
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.peer_reads import DatasetPeers

VERIFY_BYTES: Final = 256 * 1024 * 1024
"""Bytes verified before anything else may happen in that thread."""

FETCHES: Final = 4
"""How often bytes are fetched that leave the cache before they could be sent."""


class ServedRange:
    """Bytes to send, their sums, and what to let go of afterwards."""

    __slots__ = ("_close", "from_source", "length", "spans", "sums")

    def __init__(
        self,
        spans: Sequence[FileSpan],
        sums: Sequence[int],
        close: Callable[[], None],
        *,
        from_source: bool,
    ) -> None:
        """`from_source`: some of it was fetched for this request."""
        self.spans = spans
        self.sums = sums
        self.from_source = from_source
        self.length = length_of(spans)
        """How many bytes."""
        self._close = close

    def close(self) -> None:
        """Everything was sent, or will not be."""
        self._close()


def _nothing() -> None:
    """An object without bytes holds nothing."""


class _PeerOrigin:
    """Whom a fill for a peer tells what happened: the one who reads looks at the folder again."""

    def __init__(self, dataset: AttachedDataset) -> None:
        self.counters: Counters = dataset.counters
        self.peers: DatasetPeers | None = dataset.peers

    def source_changed(self, located: Located) -> None:
        """The peer hears of it by the error, and refreshes its own catalog."""


class PeerObjects:
    """The objects of all Datasets in use here, as peers ask for them."""

    def __init__(self, datasets: Datasets, fills: FillTable) -> None:
        """For the worker's own tables."""
        self._datasets = datasets
        self._fills = fills
        self.block_bytes = fills.block_bytes
        self._keys: dict[tuple[str, str], tuple[Namespace, CacheKeys]] = {}

    def ready(self, request: PeerRequest) -> ServedRange | None:
        """The range, if it is cached and may be used at once.

        Raises PeerRefusedError when the Dataset is not served here as the peer knows it.
        """
        dataset = self._dataset(request)
        key = self._key(dataset, request)
        if not request.size:
            return ServedRange((), (), _nothing, from_source=False)
        if request.end - request.start == request.size <= MOST_SMALL_BYTES:
            sealed = seal_complete(dataset.store.table, key, request.size)
            if sealed is not None:
                return ServedRange(sealed.spans, sealed.sums, sealed.close, from_source=False)
        cached = self._find(dataset, key, request.size)
        if cached is None:
            return None
        return _sealed(cached, request, from_source=False, checked=True)

    async def bring(
        self, request: PeerRequest, *, only_cached: bool, deadline: float
    ) -> ServedRange:
        """The range, verified or fetched first; `deadline` is a time of the event loop's clock.

        Raises PeerAbsentError (`only_cached` and not there), PeerRefusedError, SourceError.
        """
        dataset = self._dataset(request)
        key = self._key(dataset, request)
        cached = self._find(dataset, key, request.size)
        if cached is not None and cached.suspect:
            for start in range(request.start, request.end, VERIFY_BYTES):
                end = min(start + VERIFY_BYTES, request.end)
                await asyncio.to_thread(cached.verify, start, end)
        if cached is not None and (served := _sealed(cached, request, from_source=False)):
            return served
        if only_cached:
            raise PeerAbsentError(
                f"{request.path!r} of Dataset {request.dataset} is not cached here",
                cure="Ask another owner, or the source.",
            )
        return await self._fetch(dataset, key, request, deadline)

    def frames(self, requests: Sequence[PeerRequest], buffer: bytearray) -> ReadyFrames:
        """Frames of those of a batch's objects that are cached, made in `buffer`. Raises as
        `ready`.
        """
        dataset = self._dataset(requests[0])
        keys = [self._key(dataset, request) for request in requests]
        return ReadyFrames(dataset.store.table, requests, keys, buffer)

    def presence(self, requests: Sequence[PeerRequest]) -> list[Presence]:
        """What is cached of each object; counts as no use. Raises as `ready`."""
        found = []
        for request in requests:
            dataset = self._dataset(request)
            cached = dataset.store.peek(self._key(dataset, request))
            if cached is None or cached.size != request.size:
                found.append(Presence(0, False, 0.0))
                continue
            used = max((file.last_use for file in cached.files()), default=0)
            found.append(Presence(cached.present_bytes, cached.complete, used / 1000))
        return found

    def _dataset(self, request: PeerRequest) -> AttachedDataset:
        try:
            dataset = self._datasets.named(request.dataset)
        except DatasetNotFoundError as error:
            raise PeerBusyError(
                f"Dataset {request.dataset} is not in use on this worker",
                cure="Ask again when it has been attached, or read from the source.",
            ) from error
        if dataset.bytes_digest != request.definition:
            raise PeerDefinitionError(
                f"Dataset {request.dataset} has another definition on this worker",
                cure="One of both is being updated: read from the source meanwhile.",
            )
        return dataset

    def _key(self, dataset: AttachedDataset, request: PeerRequest) -> bytes:
        """The key of the object's bytes in the store here."""
        known = self._keys.get((request.dataset, request.mount))
        if known is None or known[0] is not dataset.namespace:
            try:
                _, storage = dataset.namespace.mount_named(request.mount)
            except PathNotFoundError as error:
                raise malformed(error.message) from error
            known = dataset.namespace, CacheKeys(storage.source_id, storage.identity)
            self._keys[request.dataset, request.mount] = known
        return known[1].key(os.fsencode(request.path), request.version)

    def _find(self, dataset: AttachedDataset, key: bytes, size: int) -> CachedObject | None:
        cached = dataset.store.get(key)
        return cached if cached is not None and cached.size == size else None

    async def _fetch(
        self, dataset: AttachedDataset, key: bytes, request: PeerRequest, deadline: float
    ) -> ServedRange:
        cached = None
        if may_be_kept(request.version) and request.size:
            with contextlib.suppress(CacheError):  # counted where the bytes are not kept
                cached = dataset.cached_object(key, request.size)
        located = _located(dataset, request)
        fill = self._fills.acquire(key, located, cached, _PeerOrigin(dataset))
        try:
            served = await _filled(fill, request, deadline)
            dataset.counters.bytes_fetched_for_peers += served.length
            return served
        finally:
            self._fills.release(fill)


async def _filled(fill: ObjectFill, request: PeerRequest, deadline: float) -> ServedRange:
    for attempt in range(FETCHES):
        unkept = await fill.ensure(request.start, request.end, deadline, for_peer=True)
        if not unkept and fill.cached is not None:
            served = _sealed(fill.cached, request, from_source=True)
            if served is not None:
                return served
        try:
            fd = memfd_of(fill.cached, request.start, request.end, unkept)
        except BytesLeftError:
            if attempt == FETCHES - 1:
                raise
            continue
        return await _in_memory(fd, request, fill.table.block_bytes)
    raise SourceTimeoutError(f"{fill.describe()}: not fetched", cure="Read again.")


async def _in_memory(fd: int, request: PeerRequest, block_bytes: int) -> ServedRange:
    """Bytes of a file of memory, which is closed with them; sums are made here."""
    length = request.end - request.start
    try:
        sums = await asyncio.to_thread(_sums_of_file, fd, length, block_bytes)
    except BaseException:
        os.close(fd)
        raise
    return ServedRange([FileSpan(fd, 0, length)], sums, lambda: os.close(fd), from_source=True)


def _sums_of_file(fd: int, length: int, block_bytes: int) -> list[int]:
    step = max(READ_BYTES // block_bytes, 1) * block_bytes
    found: list[int] = []
    for at in range(0, length, step):
        found += sums_of(memoryview(os.pread(fd, min(step, length - at), at)), block_bytes)
    return found


def _sealed(
    cached: CachedObject, request: PeerRequest, *, from_source: bool, checked: bool = False
) -> ServedRange | None:
    sealed = seal(cached, request.start, request.end, checked=checked)
    if sealed is None:
        return None
    return ServedRange(sealed.spans, sealed.sums, sealed.close, from_source=from_source)


def _located(dataset: AttachedDataset, request: PeerRequest) -> Located:
    """Where the object lies; its entry stands for no row of the catalog."""
    mount, storage = dataset.namespace.mount_named(request.mount)
    name = os.fsencode(request.path).rpartition(b"/")[2]
    entry = Entry(-1, -1, name, Kind.FILE, request.size, 0, None, 0, request.version, -1, True)
    return Located(storage, mount, request.path, entry)
