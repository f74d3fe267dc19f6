"""What changed in a Dataset a short while ago, for who may have missed it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from fluidpy.namespace.catalog_rows import Changes

KEPT_SECONDS: Final = 60.0
"""How long a change is told again: far longer than any server takes to follow another."""

MOST_ROWS: Final = 20_000
"""Rows remembered at most (some 100 bytes each); of more it is only known that there were some."""


class RecentChanges:
    """The changes of the last while, oldest first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._changes: deque[tuple[float, int, Changes]] = deque()
        self._rows = 0
        self._too_many_at = -math.inf

    def add(self, changes: Changes) -> None:
        """These happened just now."""
        now = self._clock()
        rows = len(changes.added) + len(changes.changed) + len(changes.removed)
        self._drop_before(now - KEPT_SECONDS)
        if self._rows + rows > MOST_ROWS:
            self._too_many_at = now
            self._changes.clear()
            self._rows = 0
        else:
            self._changes.append((now, rows, changes))
            self._rows += rows

    def _drop_before(self, limit: float) -> None:
        while self._changes and self._changes[0][0] < limit:
            self._rows -= self._changes.popleft()[1]

    def since(self, seconds: float) -> Changes | None:
        """What happened in the last `seconds`; None when that is not known any more."""
        now = self._clock()
        if seconds > KEPT_SECONDS or now - self._too_many_at <= seconds:
            return None
        changes = Changes.none()
        for at, _, change in self._changes:
            if now - at <= seconds:
                changes.extend(change)
        return changes
