"""Whom to ask, whom to wait for, what to ask together: without any worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cluster.hedging import Hedging
from fluidpy.cluster.membership import Member
from fluidpy.cluster.peer_client import PeerClient
from fluidpy.cluster.peer_health import PeerHealth
from fluidpy.cluster.peer_protocol import PeerRequest
from fluidpy.errors import FluidpyError, PeerAbsentError, PeerTimeoutError, PeerUnreachableError
from fluidpy.namespace.listing_flights import Located
from fluidpy.telemetry.counters import Counters
from fluidpy.worker.awaited_reads import alone_while, ended, first_of
from fluidpy.worker.peer_reads import DatasetPeers, PeerReads, PeerRoute
from fluidpy.worker.peer_routes import Role, Step, route
from fluidpy.worker.small_peer_reads import BATCH_OBJECTS, UNDER_WAY, SmallPeerReads

NAMES = "abcdef"


def member(name: str) -> Member:
    return Member(name, f"127.0.0.1:{ord(name)}", "m", 1)


MEMBERS = st.lists(st.sampled_from(NAMES), unique=True, max_size=4).map(
    lambda names: [member(name) for name in names]
)


@given(MEMBERS, MEMBERS, st.sampled_from(NAMES), st.booleans())
def test_nobody_asks_himself_and_each_is_asked_once(
    owners: list[Member], former: list[Member], me: str, for_peer: bool
) -> None:
    former = [each for each in former if each not in owners]
    steps = route(owners, former, me, asked_by_peer=for_peer)
    asked = [step.member.name for step in steps]
    assert me not in asked
    assert len(asked) == len(set(asked))
    assert set(asked) == {each.name for each in (*owners, *former)} - {me}


@given(MEMBERS, MEMBERS, st.sampled_from(NAMES))
def test_what_a_worker_wants_goes_round_in_no_circle(
    owners: list[Member], former: list[Member], me: str
) -> None:
    assert all(step.only_cached for step in route(owners, former, me, asked_by_peer=True))
    ranks = {owner.name: rank for rank, owner in enumerate(owners)}
    for step in route(owners, former, me, asked_by_peer=False):
        if not step.only_cached:
            assert ranks[step.member.name] < ranks.get(me, len(owners))


@given(MEMBERS, st.sampled_from(NAMES), st.booleans())
def test_owners_are_asked_in_their_order(owners: list[Member], me: str, for_peer: bool) -> None:
    steps = route(owners, (), me, asked_by_peer=for_peer)
    assert [step.member for step in steps] == [each for each in owners if each.name != me]
    for step in steps:
        assert (step.role is Role.OWNER) == (step.member is owners[0])


async def _later(seconds: float, result: str | Exception) -> str:
    await asyncio.sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ((0.0, "1"), (30.0, "2"), None),
        ((30.0, "1"), (0.0, "2"), "2"),
        ((0.02, "1"), (30.0, "2"), None),
        ((0.02, OSError()), (0.04, "2"), "2"),
        ((30.0, "1"), (0.0, OSError()), None),
        ((0.02, OSError()), (0.03, OSError()), None),
    ],
)
async def test_the_second_read_counts_only_where_it_helps(
    first: tuple[float, str | Exception], second: tuple[float, str | Exception], found: str | None
) -> None:
    begun: list[asyncio.Task[str]] = []

    def begin() -> asyncio.Task[str]:
        begun.append(asyncio.create_task(_later(*second)))
        return begun[0]

    task = asyncio.create_task(_later(*first))
    assert await first_of(task, begin, 0.005) == found
    assert all(each.done() for each in begun)
    await ended(task)


async def test_a_second_read_that_may_not_be_is_none() -> None:
    task = asyncio.create_task(_later(0.02, "1"))
    assert await first_of(task, lambda: None, 0.001) is None
    assert await task == "1"


async def test_a_read_is_waited_for_while_it_is_worth_it() -> None:
    looks: list[int] = []

    async def worth_it() -> bool:
        looks.append(1)
        return len(looks) < 3

    task = asyncio.create_task(_later(30.0, "1"))
    assert not await alone_while(task, 0.001, worth_it)
    assert len(looks) == 3
    await ended(task)
    quick = asyncio.create_task(_later(0.0, "1"))
    assert await alone_while(quick, 5.0, worth_it)


class Client:
    """Answers batches when told to; gives an object's path as its bytes."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.cancelled = 0
        self.failure: FluidpyError | None = None
        self.free = asyncio.Event()
        self.free.set()

    async def read_batch(
        self,
        member: Member,
        requests: Sequence[PeerRequest],
        take: Callable[[int, memoryview], None],
        *,
        seconds: float,
        only_cached: bool,
    ) -> list[FluidpyError | None]:
        self.batches.append([request.path for request in requests])
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        outcome: list[FluidpyError | None] = []
        for number, request in enumerate(requests):
            if request.path.startswith("absent"):
                outcome.append(PeerAbsentError(request.path, cure="None."))
            else:
                take(number, memoryview(request.path.encode()))
                outcome.append(None)
        return outcome


def wish(path: str, size: int = 100) -> PeerRequest:
    return PeerRequest("default/data", "digest", "m", path, b"1", size, 0, size)


async def turns_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


async def _read(reads: SmallPeerReads, path: str, size: int = 100) -> bytes:
    ends = asyncio.get_running_loop().time() + 30
    return (await reads.read(member("b"), wish(path, size), False, ends))[0]


async def test_objects_wanted_meanwhile_are_asked_for_together() -> None:
    client = Client()
    reads = SmallPeerReads(cast(PeerClient, client))
    client.free.clear()
    tasks = [asyncio.create_task(_read(reads, f"o{n}")) for n in range(200)]
    await turns_until(lambda: len(client.batches) >= UNDER_WAY)
    client.free.set()
    assert await asyncio.gather(*tasks) == [f"o{n}".encode() for n in range(200)]
    assert max(map(len, client.batches)) <= BATCH_OBJECTS
    assert len(client.batches) <= UNDER_WAY + 4
    assert not reads._lanes


async def test_large_ones_are_spread_over_several_requests() -> None:
    client = Client()
    reads = SmallPeerReads(cast(PeerClient, client))
    await asyncio.gather(*[_read(reads, f"o{n}", 1024 * 1024) for n in range(20)])
    assert max(map(len, client.batches)) <= 4


async def test_each_waiter_gets_the_outcome_of_its_own_object() -> None:
    client = Client()
    reads = SmallPeerReads(cast(PeerClient, client))
    found = await asyncio.gather(
        *[_read(reads, name) for name in ("a", "absent1", "b")], return_exceptions=True
    )
    assert found[0] == b"a"
    assert isinstance(found[1], PeerAbsentError)
    assert found[2] == b"b"
    client.failure = PeerUnreachableError("gone", cure="None.")
    failed = await asyncio.gather(_read(reads, "a"), _read(reads, "b"), return_exceptions=True)
    assert all(isinstance(each, PeerUnreachableError) for each in failed)
    assert failed[0] is not failed[1]


async def test_a_request_that_nobody_waits_for_is_given_up() -> None:
    client = Client()
    reads = SmallPeerReads(cast(PeerClient, client))
    client.free.clear()
    task = asyncio.create_task(_read(reads, "a"))
    await turns_until(lambda: bool(client.batches))
    await ended(task)
    await turns_until(lambda: bool(client.cancelled))
    client.free.set()
    assert await _read(reads, "b") == b"b"


class SlowClient:
    """Workers that answer, but give nothing in the time there is."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read_into(self, member: Member, *_: object, seconds: float, **__: object) -> str:
        self.asked.append(member.name)
        await asyncio.sleep(seconds)
        raise PeerTimeoutError("no answer in time", cure="Wait.")


class OneDataset:
    """A Dataset for which one worker stands in."""

    def __init__(self, reads: PeerReads, helper: Step) -> None:
        self.pool = SimpleNamespace(reads=reads)
        self._helper = helper

    def request(self, *_: object) -> PeerRequest:
        return PeerRequest("default/data", "digest", "m", "path", b"version", 1 << 23, 0, 1 << 20)

    def stand_in(self, _: bytes) -> Step:
        return self._helper


@pytest.mark.parametrize("replicas", [0, 1])
async def test_who_could_only_fail_for_want_of_time_is_not_asked_and_stays_well(
    replicas: int,
) -> None:
    client, health = SlowClient(), PeerHealth()
    hedging = Hedging()
    while hedging.may_hedge():  # whoever is asked only because another one is slow is not meant
        pass
    reads = PeerReads(cast(PeerClient, client), health, hedging, lambda _: False)
    dataset = cast(DatasetPeers, OneDataset(reads, Step(member("c"), Role.REPLICA, False)))
    steps = [Step(member(name), Role.OWNER, False) for name in "ab"[: 1 + replicas]]
    peers = PeerRoute(dataset, b"unit", steps, copy=True, for_peer=False)
    located = cast(Located, None)
    assert await peers.bring(located, 0, 1 << 20, 0.4, Counters()) is None
    assert client.asked == ["a"]
    assert health.is_well("b")
    assert health.is_well("c")
