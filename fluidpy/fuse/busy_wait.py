"""Whether the next request is looked for, for a moment, rather than slept for: a decision by the
gaps of late.

Who opens one small file after the other asks again within some 50 µs. To sleep in between costs
the way into sleep and out of it, on both sides: of 87 µs that an open added, about 15. A server
that looks instead needs a core of its own meanwhile, so it does that only while the next request
comes at once again and again, and only where there is more than one core.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
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


def usable_cores(
    groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float:
    """Cores that this process may keep busy: those it may run on, or the quota of its control
    groups, which lie in `groups` and are named in `membership` (cgroups(7)).
    """
    cores = float(len(os.sched_getaffinity(0)))
    with suppress(OSError):  # no control groups here
        cores = min(cores, quota(membership.read_text(errors="surrogateescape"), groups))
    return cores


def quota(membership: str, groups: Path) -> float:
    """Cores that the control groups named in `membership`, and all above them, may keep busy.

    Infinite where none says. Those of the second version have a `cpu.max`, of the first one a
    `cpu.cfs_quota_us` and a `cpu.cfs_period_us` (Documentation/admin-guide/cgroup-v2 and
    Documentation/scheduler/sched-bwc). A container may see its own group as the top one.
    """
    least = math.inf
    for line in membership.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            tops, quota_in = [groups], _quota_in_second_version
        elif "cpu" in controllers.split(","):
            tops, quota_in = [groups / controllers, groups / "cpu"], _quota_in_first_version
        else:
            continue
        for top in tops:
            for folder in _from_top(top, path):
                with suppress(OSError, ValueError, ZeroDivisionError):  # this group says nothing
                    least = min(least, quota_in(folder))
    return least


def _from_top(top: Path, path: str) -> Iterator[Path]:
    yield top
    for name in path.split("/"):
        if name not in ("", ".."):  # of a group that this process does not see
            top /= name
            yield top


def _quota_in_second_version(folder: Path) -> float:
    allowed, period = (folder / "cpu.max").read_text().split()
    return math.inf if allowed == "max" else int(allowed) / int(period)


def _quota_in_first_version(folder: Path) -> float:
    allowed = int((folder / "cpu.cfs_quota_us").read_text())
    period = int((folder / "cpu.cfs_period_us").read_text())
    return allowed / period if allowed > 0 else math.inf
