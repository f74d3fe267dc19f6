"""Bytes of a part from other workers of the pool, before its source is asked.

Workers are asked in the order of `peer_routes`; when none of the owners answers, one that stands in
for them. One that is slow is not waited for alone: a replica
is asked as well, and where there is none, whether the worker still answers at all. One that failed
is passed over for a while. All of that may take half the time that the source has for an answer, so
that the source can be asked after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from fluidpy.cluster.peer_protocol import FROM_CACHE, MOST_SMALL_BYTES, PeerRequest
from fluidpy.cluster.placement import UNIT_BYTES, Placement, unit_of
from fluidpy.errors import (
    CacheError,
    ClusterError,
    FluidpyError,
    PeerAbsentError,
    PeerError,
    PeerRefusedError,
    PeerTimeoutError,
    SourceChangedError,
    SourceError,
)
from fluidpy.storage.under_storage import may_be_kept
from fluidpy.worker.awaited_reads import alone_while, ended, first_of
from fluidpy.worker.load_share import LoadShare
from fluidpy.worker.peer_routes import Role, Step, route, stand_in, stands_in
from fluidpy.worker.small_peer_reads import SmallPeerReads

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cluster.hedging import Hedging
    from fluidpy.cluster.peer_client import PeerClient
    from fluidpy.cluster.peer_health import PeerHealth
    from fluidpy.namespace.catalog import Entry
    from fluidpy.namespace.definition import DatasetDefinition
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.storage.under_storage import Buffer
    from fluidpy.telemetry.counters import Counters
    from fluidpy.worker.pool import Pool

_log = logging.getLogger(__name__)

PEERS_SHARE: Final = 0.5
"""Of the time that a source has for an answer: how long other workers may be asked before it."""

LEAST_SECONDS: Final = 1.0
"""With less time left (or a tenth of all there was) nobody else is asked: he would fail for want of
time alone, and be passed over for it."""

CHECK_SECONDS: Final = 1.0
"""A worker that has not answered for so long is asked whether it is there, and again after that."""

PRESENCE_SECONDS: Final = 1.0
"""How long that may take: what a worker has it knows without its disk or its source."""

SLOW_SECONDS: Final = 5.0
"""What a worker has in its cache it must have given after so long, or others are asked."""

STREAMED_BYTES: Final = 1024 * 1024
"""Ranges from this size on are received piece by piece into the cache file."""


class Brought(NamedTuple):
    """What another worker gave: in the cache file already (`kept`), or as `data`."""

    kept: bool
    data: Buffer


class PeerRoute:
    """The workers to ask for one part, and what is under way for it."""

    __slots__ = ("_attempt", "_dataset", "at_source", "copy", "for_peer", "steps", "unit")

    def __init__(
        self,
        dataset: DatasetPeers,
        unit: bytes,
        steps: Sequence[Step],
        *,
        copy: bool,
        for_peer: bool,
    ) -> None:
        """`copy`: others keep the bytes, so that what is kept of them here is only a copy."""
        self._dataset = dataset
        self._attempt: asyncio.Task[Brought] | None = None
        self.unit = unit
        self.steps = steps
        self.copy = copy
        self.for_peer = for_peer
        self.at_source = False
        """Nobody had it: the part has, or waits for, its turn at the source."""

    def fetch_here(self) -> None:
        """Another worker wants the bytes of this one: nobody else is asked to fetch them."""
        if not self.for_peer:
            self.for_peer = True
            if self._attempt is not None:
                self._attempt.cancel()

    async def bring(
        self,
        located: Located,
        start: int,
        end: int,
        seconds: float,
        counters: Counters,
        cached: CachedObject | None = None,
    ) -> Brought | None:
        """The bytes `[start, end)`, into `cached` where it is given and they are many; None when
        the source has to be asked, which may take `seconds`.

        Raises SourceChangedError when a worker saw that the object is another version by now.
        """
        reads = self._dataset.pool.reads
        request = self._dataset.request(located, start, end)
        if request is None:
            return None
        clock = asyncio.get_running_loop().time
        ends = clock() + seconds * PEERS_SHARE
        last = ends - min(LEAST_SECONDS, seconds * PEERS_SHARE / 10)
        for number, step in enumerate(self.steps):
            if clock() > last:
                return None
            if self.for_peer and not step.only_cached:
                continue
            if not reads.health.may_ask(step.member.name):
                counters.peers_left_out += 1
                continue
            later = self.steps[number + 1 :]
            spare = next((s for s in later if reads.health.is_well(s.member.name)), None)
            reading = PeerReading(reads, counters, request, cached, ends)
            brought = await self._attempted(reading, step, spare)
            if brought is not None:
                return brought
        helper = None if self.for_peer else self._dataset.stand_in(self.unit)
        if helper is None or clock() > last:
            return None
        reading = PeerReading(reads, counters, request, cached, ends)
        return await self._attempted(reading, helper, None)

    async def _attempted(
        self, reading: PeerReading, step: Step, spare: Step | None
    ) -> Brought | None:
        """One worker's bytes (or the spare one's), None when it gave none."""
        self._attempt = asyncio.get_running_loop().create_task(reading.run(step, spare))
        try:
            if self.for_peer and not step.only_cached:  # told while the task was made
                self._attempt.cancel()
            return await self._attempt
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            return None  # `fetch_here`
        except SourceChangedError:
            raise
        except (ClusterError, SourceError) as error:
            reading.note_failure(step, error)
            return None
        finally:
            self._attempt = None


class PeerReading:
    """One range, read of one worker, with another one to help when it is slow."""

    def __init__(
        self,
        reads: PeerReads,
        counters: Counters,
        request: PeerRequest,
        cached: CachedObject | None,
        ends: float,
    ) -> None:
        """`ends` is a time of the event loop's clock."""
        self._reads = reads
        self._counters = counters
        self._request = request
        self._cached = cached
        self._ends = ends
        self._began = asyncio.get_running_loop().time()

    async def run(self, step: Step, spare: Step | None) -> Brought:
        """The bytes. Raises ClusterError, SourceError."""
        first = asyncio.get_running_loop().create_task(self._read(step, self._cached))
        try:
            if spare is not None:
                helped = await self._helped(first, spare)
                if helped is not None:
                    self._counters.hedges_won += 1
                    return helped
            if await alone_while(first, CHECK_SECONDS, lambda: self._worth_waiting(step)):
                return first.result()
        finally:
            await ended(first)
        raise PeerTimeoutError(
            f"worker {step.member.name} did not answer in time",
            cure="Look whether it is up and the network between works.",
        )

    async def _helped(self, first: asyncio.Task[Brought], spare: Step) -> Brought | None:
        hedging = self._reads.hedging
        delay = hedging.delay(self._request.end - self._request.start)

        def second() -> asyncio.Task[Brought] | None:
            if not hedging.may_hedge():
                return None
            self._counters.hedged_reads += 1
            reading = self._read(spare._replace(only_cached=True), None)
            return asyncio.get_running_loop().create_task(reading)

        return await first_of(first, second, delay)

    async def _worth_waiting(self, step: Step) -> bool:
        """Whether a worker that has not answered for a while still does, and only has to fetch."""
        whole = self._request._replace(start=0, end=self._request.size)
        asked = self._reads.client.presence(step.member, [whole], seconds=PRESENCE_SECONDS)
        try:
            async with asyncio.timeout(PRESENCE_SECONDS):
                (found,) = await asked
        except (FluidpyError, TimeoutError):
            return False
        waited = asyncio.get_running_loop().time() - self._began
        return waited < SLOW_SECONDS or not found.complete

    async def _read(self, step: Step, cached: CachedObject | None) -> Brought:
        request, loop = self._request, asyncio.get_running_loop()
        began = loop.time()
        seconds = self._ends - began
        if seconds <= 0:
            raise ClusterError("no time is left to ask other workers", cure="Read again.")
        try:
            kept, data, origin = await self._receive(step, cached, seconds)
        except CacheError:  # the disk did not take it
            kept, data, origin = await self._receive(step, None, seconds)
        length = request.end - request.start
        if origin == FROM_CACHE:
            self._reads.hedging.observe(length, loop.time() - began)
        self._reads.health.succeeded(step.member.name)
        self._count(step.role, length)
        return Brought(kept, data)

    def _count(self, role: Role, length: int) -> None:
        counters = self._counters
        counters.peer_reads += 1
        if role is Role.OWNER:
            counters.bytes_from_owner += length
        elif role is Role.REPLICA:
            counters.bytes_from_replica += length
        else:
            counters.bytes_from_former_owner += length

    async def _receive(
        self, step: Step, cached: CachedObject | None, seconds: float
    ) -> tuple[bool, Buffer, str]:
        """Whether it is kept already, the bytes otherwise, and where the worker had them from."""
        request, client = self._request, self._reads.client
        member, only, length = step.member, step.only_cached, request.end - request.start
        if length == request.size <= MOST_SMALL_BYTES:
            data, origin = await self._reads.small.read(member, request, only, self._ends)
            return False, data, origin
        if cached is None or length < STREAMED_BYTES:
            into = bytearray(length)
            origin = await client.read_into(
                member, request, memoryview(into), seconds=seconds, only_cached=only
            )
            return False, into, origin
        origin = await client.read(member, request, cached.write, seconds=seconds, only_cached=only)
        cached.commit(request.start, request.end)
        return True, b"", origin

    def note_failure(self, step: Step, error: FluidpyError) -> None:
        """Counts a worker that gave nothing; one that failed is passed over for a while."""
        counters, name = self._counters, step.member.name
        if isinstance(error, PeerAbsentError):
            counters.peers_absent += 1
        elif isinstance(error, PeerTimeoutError):
            counters.peers_slow += 1
        else:
            counters.peers_failed += 1
        if isinstance(error, PeerAbsentError | PeerRefusedError | SourceError):
            self._reads.health.succeeded(name)  # it is there and answers
        elif isinstance(error, PeerError):
            self._reads.health.failed(name)
        if isinstance(error, PeerAbsentError):
            return
        if self._reads.may_log(f"{name} {type(error).__name__}"):
            _log.warning("%s", error)


class PeerReads:
    """What all Datasets of this worker share to read from others."""

    def __init__(
        self,
        client: PeerClient,
        health: PeerHealth,
        hedging: Hedging,
        may_log: Callable[[str], bool],
    ) -> None:
        """`may_log` says whether an event of a kind that may come in floods is logged."""
        self.client = client
        self.health = health
        self.hedging = hedging
        self.may_log = may_log
        self.small = SmallPeerReads(client)


class DatasetPeers:
    """The other workers of the pool as one Dataset sees them, in one definition of it."""

    def __init__(self, pool: Pool, definition: DatasetDefinition) -> None:
        """Asks nobody yet."""
        self.pool = pool
        self.definition = definition
        self.digest = definition.bytes_digest()

    @property
    def placement(self) -> Placement | None:
        """Who owns what, if other workers than this one do."""
        return self.pool.placement(self.definition.key)

    def end_of_unit(self, start: int, end: int, size: int) -> int:
        """Where a part that begins at `start` ends at most: a unit is fetched from one owner."""
        return end if size <= UNIT_BYTES else min(end, (start // UNIT_BYTES + 1) * UNIT_BYTES)

    def file_bytes(self, size: int) -> int:
        """Longest file to keep an object of `size` bytes in; 0: any, as all of it is owned here or
        it is one unit.
        """
        placement = self.placement
        if size <= UNIT_BYTES or placement is None:
            return 0
        return UNIT_BYTES if len(placement.members) > placement.replicas else 0

    def is_kept_elsewhere(self, key: bytes, start: int, size: int) -> bool:
        """Whether other workers own the unit, and not this one."""
        placement = self.placement
        return placement is not None and not placement.is_owner(
            self.pool.name, unit_of(key, start, size)
        )

    def route(self, key: bytes, entry: Entry, start: int, *, for_peer: bool) -> PeerRoute | None:
        """Whom to ask for a part that begins at `start`; None: the source."""
        placement = self.placement
        if placement is None or not may_be_kept(entry.version):
            return None
        unit = unit_of(key, start, entry.size)
        owners = placement.owners(unit)
        steps = route(owners, placement.former_owners(unit), self.pool.name, asked_by_peer=for_peer)
        is_well = self.pool.reads.health.is_well
        copy = all(owner.name != self.pool.name for owner in owners)
        if copy and not any(is_well(owner.name) for owner in owners):
            copy = not stands_in(placement.ranked(unit), owners, self.pool.name, is_well)
        return PeerRoute(self, unit, steps, copy=copy, for_peer=for_peer)

    def stand_in(self, unit: bytes) -> Step | None:
        """Whom to ask to fetch while no owner of the unit answers; None: the source."""
        placement = self.placement
        if placement is None:
            return None
        is_well = self.pool.reads.health.is_well
        return stand_in(placement.ranked(unit), placement.owners(unit), self.pool.name, is_well)

    def share(self, replicas: int) -> LoadShare | None:
        """What this worker loads of the Dataset, when each unit is to be on `replicas` workers (0:
        as many as own it); None: all, for no other worker keeps any of it.
        """
        placement = self.placement
        if placement is None:
            return None
        return LoadShare(placement, self.pool.name, replicas or placement.replicas)

    def request(self, located: Located, start: int, end: int) -> PeerRequest | None:
        """The request for a range; None when the object was located by another definition."""
        if all(mount is not located.mount for mount in self.definition.mounts):
            return None
        return PeerRequest(
            self.definition.key,
            self.digest,
            located.mount.name,
            located.path,
            located.entry.version,
            located.entry.size,
            start,
            end,
        )
