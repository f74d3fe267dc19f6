"""Whether the next request is looked for, for a moment, rather than slept for: a decision by the
gaps of late.

Who opens one small file after the other asks again within some 50 µs. To sleep in between costs
the way into sleep and out of it, on both sides: of 87 µs that an open added, about 15. A server
that looks instead needs a core of its own meanwhile, so it does that only while the next request
comes at once again and again, and only where there is more than one core.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 200e-6
"""How long the next request is looked for: twice what a reader of 100 KB files takes (80-100 µs
until the kernel asks for the next one, Linux 6.18, AMD EPYC)."""

ENOUGH: Final = 8
"""So many requests in a row came that soon before one is looked for: whoever reads a file and then
computes is not waited for."""


class BusyWait:
    """Follows the requests of one mount."""

    __slots__ = ("_answered_at", "_clock", "_enough", "_in_a_row")

    def __init__(self, clock: Callable[[], float], cores: float | None = None) -> None:
        """`clock` gives seconds; `cores` are those this process may use, without it the real ones.

        With less than two nothing is ever looked for: whoever would ask could not run meanwhile.
        """
        self._clock = clock
        usable = usable_cores() if cores is None else cores
        self._enough: float = ENOUGH if usable >= 2 else float("inf")
        self._in_a_row = 0
        self._answered_at = float("-inf")

    def asked(self) -> None:
        """A request has come after all were answered."""
        if self._clock() - self._answered_at < LOOK_SECONDS:
            self._in_a_row += 1
        else:
            self._in_a_row = 0

    def answered(self) -> bool:
        """All requests at hand are answered: whether to look for the next one."""
        self._answered_at = self._clock()
        return self._in_a_row >= self._enough


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores that this process may keep busy: those it may run on, or the quota of its control group
    (`cpu.max`: microseconds in a period, or `max`; Documentation/admin-guide/cgroup-v2).
    """
    cores = float(len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError):  # another kind of groups, or none: no quota to be seen
        (line,) = (
            line
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
        quota, period = (groups / line[3:].lstrip("/") / "cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return cores
