"""Walks of one tree, one at a time: what somebody waits for comes before what nobody asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from fluidpy.namespace.metadata_load import MetadataReport, Rest

REST_SECONDS: Final = 1.0
"""Longest rest of a gentle walk between two pages."""


class _OvertakenError(Exception):
    """Ends a gentle walk between two pages; what it has written is right."""


class _Turn:
    """A walk's turn, which it may lend to those who wait."""

    def __init__(self, walking: asyncio.Lock) -> None:
        self._walking, self._held = walking, False

    async def __aenter__(self) -> None:
        await self._walking.acquire()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        if self._held:
            self._walking.release()

    async def lend(self) -> None:
        """Returns when all who wait now have had it."""
        self._walking.release()
        self._held = False
        await self.__aenter__()


class WalkTurns:
    """Lets each walk have its turn; of one event loop. Folders are named by path (root: empty)."""

    def __init__(self) -> None:
        """Nobody walks."""
        self._walking = asyncio.Lock()
        self._asked_for: list[bytes] = []
        self._wanted = asyncio.Event()
        """Set while somebody waits for a walk, or has one made."""
        self._last: dict[bytes, tuple[int, MetadataReport]] = {}
        self._number = 0

    async def at_once(
        self, folder: bytes, walk: Callable[[], Awaitable[MetadataReport]]
    ) -> MetadataReport:
        """Walks, after others that are waited for, and before a gentle one. Raises as `walk`."""
        self._asked_for.append(folder)
        self._wanted.set()
        try:
            async with self._walking:
                report = await walk()
            self._number += 1
            self._last = {folder: (self._number, report)}
            return report
        finally:
            self._asked_for.remove(folder)
            if not self._asked_for:
                self._wanted.clear()

    async def gently(
        self, folder: bytes, walk: Callable[[Rest], Awaitable[MetadataReport]]
    ) -> MetadataReport:
        """Walks with rests while nobody waits for a walk. It stands still for one of another
        folder, and ends for one of the same or of one above, which finds the same: what that found
        will do. Raises as `walk`.
        """
        began = self._number
        while True:
            async with (turn := _Turn(self._walking)):  # waiters have it as they came
                number, report = self._last.get(folder, (began, None))
                if number > began and report is not None:
                    return report
                with contextlib.suppress(_OvertakenError):
                    return await walk(partial(self._rest, folder, turn))

    async def _rest(self, folder: bytes, turn: _Turn, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, REST_SECONDS)):
                await self._wanted.wait()
        while self._asked_for:
            if any(_covers(asked, folder) for asked in self._asked_for):
                raise _OvertakenError
            await turn.lend()


def _covers(folder: bytes, other: bytes) -> bool:
    return folder in (b"", other) or other.startswith(folder + b"/")
