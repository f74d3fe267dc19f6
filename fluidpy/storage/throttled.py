"""A decorator that limits requests under way and bytes a second, first come, first served.

It stands outside the retries: waiting for our own limit is no fault of the source and does not
count against its deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from fluidpy.storage.under_storage import Buffer, ObjectInfo, TakePiece, UnderStorage
from fluidpy.storage.wrapping import WrappingStorage


class RequestSlots:
    """A counting semaphore in FIFO order, cheap while slots are free; cancelling a wait is safe."""

    def __init__(self, slots: int) -> None:
        """`slots` may be held at once."""
        self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> bool:
        """Whether `take` would return at once."""
        return self._free > 0 and not self._waiting

    async def take(self) -> None:
        """Waits for a slot."""
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            else:
                self._waiting.remove(turn)
            raise

    def give(self) -> None:
        """Hands a slot to the one who waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class ByteBudget:
    """A token bucket of bytes: bursts up to one second's worth, then the rate.

    A request larger than the bucket is let through at once when the bucket is full and paid off by
    those after it, so that no request waits for ever.
    """

    def __init__(self, bytes_per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        """The bucket starts full."""
        self._rate = bytes_per_second
        self._clock = clock
        self._paid_until = clock() - 1.0

    def reserve(self, size: int) -> float:
        """Books `size` bytes in order of calls; the seconds to wait before using them."""
        now = self._clock()
        begin = max(self._paid_until, now - 1.0)
        self._paid_until = begin + size / self._rate
        return max(0.0, begin - now)

    def cancel(self, size: int) -> None:
        """Gives back what was booked and not used."""
        self._paid_until -= size / self._rate


class ThrottledStorage(WrappingStorage):
    """Keeps reads and stats within limits; listings are few and pass freely."""

    def __init__(
        self, inner: UnderStorage, max_requests: int, bytes_per_second: int | None
    ) -> None:
        """`bytes_per_second` of None sets no rate."""
        super().__init__(inner)
        self._slots = RequestSlots(max_requests)
        self._budget = ByteBudget(bytes_per_second) if bytes_per_second else None

    async def stat(self, path: str) -> ObjectInfo:
        """The entry at `path`, in turn."""
        await self._slots.take()
        try:
            return await self.inner.stat(path)
        finally:
            self._slots.give()

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes, in turn and at the rate."""
        await self._slots.take()
        try:
            if self._budget is not None:
                await self._wait_for_bytes(self._budget, end - start)
            return await self.inner.read(path, start, end, version)
        finally:
            self._slots.give()

    async def read_pieces(
        self, path: str, start: int, end: int, version: bytes, piece_bytes: int, take: TakePiece
    ) -> None:
        """The pieces, in turn and at the rate."""
        await self._slots.take()
        try:
            if self._budget is not None:
                await self._wait_for_bytes(self._budget, end - start)
            await super().read_pieces(path, start, end, version, piece_bytes, take)
        finally:
            self._slots.give()

    async def _wait_for_bytes(self, budget: ByteBudget, size: int) -> None:
        pause = budget.reserve(size)
        if pause:
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                budget.cancel(size)
                raise
