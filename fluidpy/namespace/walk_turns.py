"""Walks of one tree, one at a time: what somebody waits for comes before what nobody asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from fluidpy.namespace.metadata_load import MetadataReport, Rest

REST_SECONDS: Final = 1.0
"""Longest rest of a gentle walk between two pages."""


class _OvertakenError(Exception):
    """Ends a gentle walk between two pages; what it has written is right."""


class WalkTurns:
    """Lets each walk have its turn; of one event loop."""

    def __init__(self) -> None:
        """Nobody walks."""
        self._walking = asyncio.Lock()
        self._asked_for = 0
        self._wanted = asyncio.Event()
        """Set while somebody waits for a walk, or has one made."""
        self._last: dict[int, tuple[int, MetadataReport]] = {}
        self._number = 0

    async def at_once(
        self, entry: int, walk: Callable[[], Awaitable[MetadataReport]]
    ) -> MetadataReport:
        """Walks, after others that are waited for, and before a gentle one. Raises as `walk`."""
        self._asked_for += 1
        self._wanted.set()
        try:
            async with self._walking:
                report = await walk()
            self._number += 1
            self._last = {entry: (self._number, report)}
            return report
        finally:
            self._asked_for -= 1
            if not self._asked_for:
                self._wanted.clear()

    async def gently(
        self, entry: int, walk: Callable[[Rest], Awaitable[MetadataReport]]
    ) -> MetadataReport:
        """Walks with rests while nobody waits for a walk; what another one found of the same
        folder meanwhile will do. Raises as `walk`.
        """
        began = self._number
        while True:
            async with self._walking:  # waiters have it in the order in which they came
                number, report = self._last.get(entry, (began, None))
                if number > began and report is not None:
                    return report
                with contextlib.suppress(_OvertakenError):
                    return await walk(self._rest)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, REST_SECONDS)):
                await self._wanted.wait()
        if self._asked_for:
            raise _OvertakenError
