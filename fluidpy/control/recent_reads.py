"""What was read of a Dataset of late, out of counters that only grow. Pure but for its memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from fluidpy.control.cache_states import READ_COUNTERS, ReadBytes
from fluidpy.control.observed import WorkerShare

LATELY_SECONDS: Final = 60.0
"""What Fluid's throughput ratios are of: Alluxio's rates of the last minute."""

SAMPLE_SECONDS: Final = 5.0
"""Time between two samples: a dozen are kept."""


class RecentReads:
    """Remembers the counters of one Dataset's workers for a minute."""

    def __init__(self) -> None:
        """Has seen nothing."""
        self._samples: deque[tuple[float, dict[str, dict[str, int]]]] = deque()

    def note(self, shares: Sequence[WorkerShare], now: float) -> ReadBytes:
        """What was read since the sample of a minute ago, or since the first; `now` in seconds.

        A worker that is not in that sample, or that began anew, counts from zero; one that does not
        answer just now is left out.
        """
        counters = {
            share.member: {name: share.counters.get(name, 0) for name in READ_COUNTERS}
            for share in shares
            if share.ready
        }
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now - LATELY_SECONDS:
            samples.popleft()
        if not samples or samples[-1][0] <= now - SAMPLE_SECONDS:
            samples.append((now, counters))
        oldest = samples[0][1]
        return ReadBytes.of(_since(one, oldest.get(name, {})) for name, one in counters.items())


def _since(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """The difference; of counters that began anew, all of it."""
    if any(now[name] < before.get(name, 0) for name in now):
        return dict(now)
    return {name: now[name] - before.get(name, 0) for name in now}
