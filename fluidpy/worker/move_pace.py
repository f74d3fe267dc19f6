"""How fast a worker takes over from others: so that a change of members leaves room for readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

UNNOTICED_SECONDS: Final = 0.01
"""Shorter waits are left out: the loop's timers and the next one make up for them."""


class MovePace:
    """Begins so many bytes a second at most, over all moves of one worker; 0: any number."""

    def __init__(self, bytes_per_second: int, clock: Callable[[], float]) -> None:
        """`clock` gives seconds and never goes back."""
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._free_at = 0.0

    def delay(self, length: int) -> float:
        """Seconds until `length` bytes may begin; they count as begun then."""
        if not self._bytes_per_second:
            return 0.0
        now = self._clock()
        begin = max(now, self._free_at)
        self._free_at = begin + length / self._bytes_per_second
        return begin - now

    async def turn(self, length: int) -> None:
        """Waits until they may begin."""
        seconds = self.delay(length)
        if seconds > UNNOTICED_SECONDS:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:  # they do not begin: others need not wait for them
                self._free_at -= length / self._bytes_per_second
                raise
