"""One Dataset's move to its new owners, as far as it leads to this worker.

The files are those of the catalog; the sources are listed only where it does not know them all. A
few thousand at a time, the former owners are asked what they have of them, and that is fetched, the
hottest first, by the ordinary fills: a reader that wants the same bytes waits for the same request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from fluidpy.cluster.peer_protocol import Presence
from fluidpy.cluster.rebalance_plan import (
    Move,
    by_holder,
    hottest_first,
    keeping,
    moves_to,
)
from fluidpy.errors import CacheError, CacheFullError, ClusterError, FluidpyError
from fluidpy.storage.under_storage import may_be_kept

if TYPE_CHECKING:
    from fluidpy.cluster.membership import Member
    from fluidpy.cluster.peer_protocol import PeerRequest
    from fluidpy.cluster.placement import Placement
    from fluidpy.namespace.catalog import Entry
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.datasets import Datasets
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.move_pace import MovePace
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Part
    from fluidpy.worker.pool import Pool

_log = logging.getLogger(__name__)

UNDER_WAY: Final = 16
"""Objects fetched at once: half of the requests that other workers are asked for a mount."""

SLICE_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one large object under way: so 256 MiB at most altogether."""

PLANNED: Final = 4096
"""Objects planned at once, of which the hottest come first; about 1 KiB of memory each."""

ASKED: Final = 1024
"""Objects of one question for presence: with paths of 1 KiB a body of 1 MiB."""

FILES_A_TURN: Final = 256
"""Files looked at before the loop looks at its other work: about 5 ms."""

PRESENCE_SECONDS: Final = 10.0
"""How long a question for presence may take; a busy machine answers it in a second."""

ATTACH_LOOK_SECONDS: Final = 0.1
"""Time between two looks at whether the Dataset is in use here yet."""

FIRST_PAUSE_SECONDS: Final = 0.5
"""Before what failed is tried again: a worker that was killed is back within a second."""

TRIES: Final = 6
"""Passes that failed before the rest is left to its source: with pauses that double, 15 s."""


class MoveCounts:
    """What came, and what could not be had; bytes and objects."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.moved_bytes = 0
        self.source_bytes = 0
        """Of parts that a reader waited for, so that they were fetched although nobody had them."""
        self.moved_objects = 0
        self.left_objects = 0
        """Those that others have and this worker has no room for, or did not get from them."""


class _Wanted(NamedTuple):
    """A unit to take over."""

    entry: Entry
    key: bytes
    located: Located
    move: Move


class DatasetMove:
    """Takes over what this worker owns by a placement; `run` does it, however often."""

    def __init__(
        self,
        dataset: str,
        placement: Placement,
        pool: Pool,
        datasets: Datasets,
        fills: FillTable,
        counts: MoveCounts,
        pace: MovePace,
    ) -> None:
        """`dataset` is the key of one that need not be in use here yet."""
        self._key = dataset
        self._placement = placement
        self._pool = pool
        self._datasets = datasets
        self._fills = fills
        self._counts = counts
        self._pace = pace
        self._full = False
        self._failed = 0

    async def run(self) -> None:
        """Returns when all is here that others have and this worker has room for.

        Waits until the Dataset is in use here. What fails is tried again for a while and then left:
        it is fetched from its source when somebody reads it.
        """
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(TRIES):
            dataset = await self._attached()
            self._failed = 0
            try:
                await self._pass(dataset, attempt)
            except FluidpyError as error:
                self._failed += 1
                if self._fills.may_log(f"move {type(error).__name__}"):
                    _log.warning("Dataset %s: taking over from others: %s", self._key, error)
            if not self._failed or self._full:
                break
            if attempt < TRIES - 1:
                await asyncio.sleep(pause)
                pause *= 2
        self._tell()

    def _tell(self) -> None:
        counts = self._counts
        counts.left_objects += self._failed
        if counts.moved_objects or counts.left_objects:
            _log.info(
                "Dataset %s: %d objects, %d bytes taken over; %d left",
                self._key,
                counts.moved_objects,
                counts.moved_bytes,
                counts.left_objects,
            )

    async def _attached(self) -> AttachedDataset:
        while True:
            for dataset in self._datasets:
                if dataset.definition.key == self._key and dataset.peers is not None:
                    return dataset
            await asyncio.sleep(ATTACH_LOOK_SECONDS)

    async def _pass(self, dataset: AttachedDataset, attempt: int) -> None:
        """Looks at every file once."""
        if self._placement.moving and not attempt and not dataset.namespace.reader.is_whole():
            try:
                await dataset.namespace.load_metadata("", lambda _: None)
            except FluidpyError as error:
                _log.warning("Dataset %s: what is not listed stays: %s", self._key, error)
        async for planned in self._planned(dataset):
            held = await self._held(dataset, planned)
            await self._fetch(dataset, deque(held))
            if self._full:
                return

    async def _planned(self, dataset: AttachedDataset) -> AsyncIterator[list[_Wanted]]:
        """What is to be taken over and not here, some thousands at a time."""
        planned: list[_Wanted] = []
        after = 0
        while page := dataset.namespace.reader.files(after, FILES_A_TURN):
            after = page[-1].id
            for entry in page:
                if entry.size and may_be_kept(entry.version):
                    planned += self._wanted(dataset, entry)
            if len(planned) >= PLANNED:
                yield planned
                planned = []
            await asyncio.sleep(0)
        if planned:
            yield planned

    def _wanted(self, dataset: AttachedDataset, entry: Entry) -> list[_Wanted]:
        """The units of a file that are to be taken over; what is here is noted as what it is."""
        name, placement, key = self._pool.name, self._placement, dataset.object_key(entry)
        cached = dataset.store.peek(key)
        if cached is not None and cached.size == entry.size:
            for start, end, copy in keeping(placement, name, key, entry.size):
                if not (copy and placement.moving):  # until they have it, it is not only a copy
                    cached.keep_as(start, end, copy=copy)
        if not placement.moving:
            return []
        moves = moves_to(placement, name, key, entry.size)
        if cached is not None and cached.size == entry.size:
            moves = [move for move in moves if cached.missing(move.start, move.end)]
        if not moves:
            return []
        located = dataset.locate(entry)
        return [_Wanted(entry, key, located, move) for move in moves]

    # What others have of it.

    async def _held(
        self, dataset: AttachedDataset, wanted: list[_Wanted]
    ) -> list[tuple[_Wanted, Presence]]:
        """What others have, the hottest first."""
        best = [Presence(0, False, 0.0)] * len(wanted)
        for holder, numbers in by_holder([each.move for each in wanted], ASKED):
            found = await self._presence(dataset, holder, [wanted[n] for n in numbers])
            for number, presence in zip(numbers, found, strict=False):
                best[number] = max(best[number], presence)
        return hottest_first(zip(wanted, best, strict=True))

    async def _presence(
        self, dataset: AttachedDataset, holder: Member, wanted: list[_Wanted]
    ) -> list[Presence]:
        """What one member has of each; nothing when it does not answer: then it is asked again."""
        peers = dataset.peers
        assert peers is not None  # `_attached`
        requests: list[PeerRequest] = []
        for each in wanted:
            request = peers.request(each.located, 0, each.entry.size)
            if request is None:
                self._failed += len(wanted)  # the definition was replaced this moment
                return []
            requests.append(request)
        try:
            # As it is known by now: it may have been started again at another address.
            member = self._pool.membership.member(holder.name) or holder
            client = self._pool.reads.client
            return await client.presence(member, requests, seconds=PRESENCE_SECONDS)
        except ClusterError as error:
            self._failed += len(wanted)
            if self._fills.may_log(f"presence {holder.name}"):
                _log.warning("Dataset %s: what %s has: %s", self._key, holder.name, error)
            return []

    # Fetching it.

    async def _fetch(self, dataset: AttachedDataset, held: deque[tuple[_Wanted, Presence]]) -> None:
        """Fetches all of it, some objects at a time."""
        tasks = [
            asyncio.create_task(self._fetch_on(dataset, held))
            for _ in range(min(UNDER_WAY, len(held)))
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _fetch_on(
        self, dataset: AttachedDataset, held: deque[tuple[_Wanted, Presence]]
    ) -> None:
        while held and not self._full:
            wanted, presence = held.popleft()
            try:
                whole = await self._fetch_one(dataset, wanted)
            except CacheError as error:
                whole = False
                if isinstance(error, CacheFullError):
                    self._stop_at(held, error)
                    return
            if whole:
                self._counts.moved_objects += 1
            elif presence.complete or self._may_have_failed(wanted.move):
                self._failed += 1

    def _stop_at(self, held: deque[tuple[_Wanted, Presence]], error: CacheFullError) -> None:
        """There is no room for more, and what is left is colder."""
        self._counts.left_objects += len(held) + 1
        held.clear()
        if not self._full:
            _log.info("Dataset %s: %s; the rest stays where it is", self._key, error)
        self._full = True

    def _may_have_failed(self, move: Move) -> bool:
        """Whether somebody who may have the unit does not answer: else nobody has all of it."""
        health = self._pool.reads.health
        return any(not health.is_well(holder.name) for holder in move.holders)

    async def _fetch_one(self, dataset: AttachedDataset, wanted: _Wanted) -> bool:
        """Whether all of a unit is here now. Raises CacheError."""
        move, size = wanted.move, wanted.entry.size
        cached = dataset.cached_object(wanted.key, size)
        fill = self._fills.acquire(wanted.key, wanted.located, cached, dataset)
        try:
            for start in range(move.start, move.end, SLICE_BYTES):
                await self._fetch_slice(fill, start, min(start + SLICE_BYTES, move.end))
            cached.keep_as(move.start, move.end, copy=False)
        finally:
            fill.withdraw(self)
            self._fills.release(fill)
        return not cached.missing(move.start, move.end)

    async def _fetch_slice(self, fill: ObjectFill, start: int, end: int) -> None:
        if length := sum(b - a for a, b in fill.missing(start, end)):
            await self._pace.turn(length)  # who reads them meanwhile fetches them himself
        parts = fill.parts(start, end, owner=self, moved=True)
        pending = {part.done for part in parts if not part.done.done()}
        if pending:
            await asyncio.wait(pending)
        for part in parts:
            self._count(part)
            if part.moved and isinstance(part.error, CacheError):
                raise type(part.error)(part.error.message, cure=part.error.cure) from part.error

    def _count(self, part: Part) -> None:
        if not part.moved or part.error is not None or part.data is not None:
            return
        length = part.end - part.start
        if part.route is not None and part.route.at_source:
            self._counts.source_bytes += length
        else:
            self._counts.moved_bytes += length
