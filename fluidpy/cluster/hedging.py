"""When a second worker is asked because the first is slow, and how often that may be.

A request is slow when it takes longer than all but one in twenty of the last ones of its size did.
Second requests are at most one in twenty: were all workers slow, asking twice would make it worse.
"""

from __future__ import annotations

from collections import deque
from typing import Final

REMEMBERED: Final = 128
"""Answers remembered of each class of sizes: enough to tell the slowest in twenty."""

LEAST_ANSWERS: Final = 16
"""With fewer, a request counts as slow after the time that `_untold` takes it to need."""

QUANTILE: Final = 0.95
BUDGET_SHARE: Final = 0.05
"""Second requests as a share of all."""

SAVED: Final = 10.0
"""Second requests that may come at once after a quiet time."""

SHORTEST_SECONDS: Final = 0.01
"""Less is what a busy machine takes to run a task, not what a slow worker takes to answer."""

_UNTOLD_SECONDS: Final = 0.1
_UNTOLD_BYTES_PER_SECOND: Final = 50e6
"""A tenth of what a worker gives over loopback, and half of a network of 1 Gbit/s."""


class Hedging:
    """Latencies by size, and the budget; for one thread."""

    def __init__(self) -> None:
        """Nothing known; a few second requests are allowed from the beginning."""
        self._latencies: dict[int, deque[float]] = {}
        self._delays: dict[int, float] = {}
        self._tokens = SAVED

    def observe(self, size: int, seconds: float) -> None:
        """An answer of `size` bytes came after so long, out of a worker's cache."""
        kind = _class_of(size)
        self._latencies.setdefault(kind, deque(maxlen=REMEMBERED)).append(seconds)
        self._delays.pop(kind, None)
        self._tokens = min(SAVED, self._tokens + BUDGET_SHARE)

    def delay(self, size: int) -> float:
        """After how many seconds a request for `size` bytes counts as slow."""
        kind = _class_of(size)
        found = self._delays.get(kind)
        if found is None:
            found = self._delays[kind] = self._worked_out(kind)
        return found

    def may_hedge(self) -> bool:
        """Whether one more second request is within the budget; if so it is taken from there."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _worked_out(self, kind: int) -> float:
        known = self._latencies.get(kind, ())
        if len(known) < LEAST_ANSWERS:
            return _UNTOLD_SECONDS + (1 << kind) / _UNTOLD_BYTES_PER_SECOND
        return max(SHORTEST_SECONDS, sorted(known)[int(len(known) * QUANTILE)])


def _class_of(size: int) -> int:
    """Sizes of a factor of two are alike; all up to 64 KiB are."""
    return max(16, size.bit_length())
