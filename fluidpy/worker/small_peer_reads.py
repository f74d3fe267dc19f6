"""Small objects from other workers: those wanted while a request is under way share the next one.

So the first one waits for nothing, and many cost one request. A worker that a load asks for
thousands of objects is asked in batches of some dozens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fluidpy.cluster.peer_protocol import FROM_CACHE, PeerRequest
from fluidpy.errors import FluidpyError, PeerTimeoutError

if TYPE_CHECKING:
    from fluidpy.cluster.membership import Member
    from fluidpy.cluster.peer_client import PeerClient

UNDER_WAY: Final = 3
"""Requests for small objects that one worker has at a time: while one is answered, the next ones
gather."""

BATCH_OBJECTS: Final = 64
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Most that one request asks for: what is fetched from the source for it comes with its last
object."""


class _Wish:
    """One object that somebody waits for."""

    __slots__ = ("data", "ends", "future", "request")

    def __init__(self, request: PeerRequest, ends: float) -> None:
        self.request = request
        self.ends = ends
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.data = b""


class _Lane:
    """What is wanted of one worker, of one Dataset, in one way."""

    def __init__(self) -> None:
        self.waiting: deque[_Wish] = deque()
        self.running: set[asyncio.Task[None]] = set()

    def take(self) -> list[_Wish]:
        """The wishes of the next request; those given up meanwhile are left out."""
        group: list[_Wish] = []
        size = 0
        while self.waiting and len(group) < BATCH_OBJECTS:
            if size + self.waiting[0].request.size > BATCH_BYTES and group:
                break
            wish = self.waiting.popleft()
            if not wish.future.done():
                group.append(wish)
                size += wish.request.size
        return group


class SmallPeerReads:
    """Whole small objects of all workers of the pool."""

    def __init__(self, client: PeerClient) -> None:
        """Asks nobody yet."""
        self._client = client
        self._lanes: dict[tuple[str, str, str, bool], _Lane] = {}

    async def read(
        self, member: Member, request: PeerRequest, only_cached: bool, ends: float
    ) -> tuple[bytes, str]:
        """All bytes of an object, verified; `ends` is a time of the event loop's clock.

        Raises ClusterError, SourceError.
        """
        key = (member.name, request.dataset, request.definition, only_cached)
        lane = self._lanes.setdefault(key, _Lane())
        wish = _Wish(request, ends)
        lane.waiting.append(wish)
        if len(lane.running) < UNDER_WAY:
            work = self._serve(lane, member, only_cached)
            task = asyncio.get_running_loop().create_task(work)
            lane.running.add(task)
            task.add_done_callback(lane.running.discard)
        return await wish.future, FROM_CACHE

    async def _serve(self, lane: _Lane, member: Member, only_cached: bool) -> None:
        try:
            while group := lane.take():
                await self._ask(group, member, only_cached)
        finally:
            if not lane.waiting and len(lane.running) == 1:
                self._lanes = {key: each for key, each in self._lanes.items() if each is not lane}

    async def _ask(self, group: list[_Wish], member: Member, only_cached: bool) -> None:
        work = asyncio.get_running_loop().create_task(self._read(group, member, only_cached))

        def given_up(_: asyncio.Future[bytes]) -> None:
            if all(wish.future.done() for wish in group):
                work.cancel()  # nobody waits any more

        for wish in group:
            wish.future.add_done_callback(given_up)
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()
            for wish in group:
                wish.future.cancel()  # those that have no outcome: the worker ends
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _read(self, group: list[_Wish], member: Member, only_cached: bool) -> None:
        seconds = max(wish.ends for wish in group) - asyncio.get_running_loop().time()

        def take(number: int, view: memoryview) -> None:
            group[number].data = bytes(view)

        errors: Sequence[FluidpyError | None]
        try:
            if seconds <= 0:
                raise PeerTimeoutError("no time is left to ask other workers", cure="Read again.")
            errors = await self._client.read_batch(
                member,
                [wish.request for wish in group],
                take,
                seconds=seconds,
                only_cached=only_cached,
            )
        except FluidpyError as error:
            errors = [error] * len(group)
        for wish, failure in zip(group, errors, strict=True):
            if wish.future.done():
                continue
            if failure is None:
                wish.future.set_result(wish.data)
            else:
                wish.future.set_exception(_own(failure))


def _own(error: FluidpyError) -> FluidpyError:
    """The error as one waiter's own, since its traceback grows as it is raised."""
    own = type(error)(error.message, cure=error.cure)
    own.__cause__ = error
    return own
