"""Back-pressure towards peers: how many bytes are answered at once, who waits and how long.

A worker that took every request would hold files, memory and requests to the source for all of them
and finish none in time. Here answers take turns in the order of arrival; who would wait too long is
told at once to ask elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from fluidpy.errors import PeerBusyError

BYTES_AT_ONCE: Final = 256 * 1024 * 1024
"""Bound of all answers under way, in bytes: as much as read-ahead may plan."""

MOST_WAITING: Final = 256
"""Requests that may wait for their turn."""

WAIT_SECONDS: Final = 5.0
"""How long one waits at most; half its deadline if that is less, so that it can go elsewhere."""


class Turns:
    """Turns for answers of one worker; for its event loop."""

    def __init__(self, most_bytes: int = BYTES_AT_ONCE, most_waiting: int = MOST_WAITING) -> None:
        """Nothing under way. An answer larger than `most_bytes` gets its turn when it is alone."""
        self._most_bytes = most_bytes
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.bytes_under_way = 0
        self.under_way = 0

    @contextlib.asynccontextmanager
    async def turn(self, length: int, seconds: float) -> AsyncIterator[None]:
        """Holds a turn for an answer of `length` bytes that is wanted within `seconds`.

        Raises PeerBusyError when it would have to wait too long.
        """
        if self._waiting or not self._fits(length):
            await self._wait(length, min(seconds / 2, WAIT_SECONDS))
        else:
            self._take(length)
        try:
            yield
        finally:
            self.bytes_under_way -= length
            self.under_way -= 1
            self._let_in()

    def _fits(self, length: int) -> bool:
        return not self.under_way or self.bytes_under_way + length <= self._most_bytes

    def _take(self, length: int) -> None:
        self.bytes_under_way += length
        self.under_way += 1

    async def _wait(self, length: int, seconds: float) -> None:
        if len(self._waiting) >= self._most_waiting:
            raise _busy()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((length, turn))
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn came in the same moment
                self.bytes_under_way -= length
                self.under_way -= 1
            else:
                with contextlib.suppress(ValueError):  # it was passed over already
                    self._waiting.remove((length, turn))
            self._let_in()
            if isinstance(error, TimeoutError):
                raise _busy() from error
            raise

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            length, turn = self._waiting.popleft()
            if not turn.done():
                self._take(length)
                turn.set_result(None)


def _busy() -> PeerBusyError:
    return PeerBusyError(
        "this worker answers as many requests as it can", cure="Ask another one, or again later."
    )
