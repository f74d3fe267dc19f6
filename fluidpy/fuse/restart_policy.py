"""What a holder does when its server has ended: a pure decision, so that every case is a test.

A server that somebody killed from outside while it served says nothing against the next one,
however often that happens. One that fails to start, crashes or exits by itself does: such failures
are answered with growing pauses, and at last with the end of the mount.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

FAILURE_LIMIT: Final = 10
"""So many failures within `FAILURE_WINDOW_SECONDS` end the mount."""

FAILURE_WINDOW_SECONDS: Final = 60.0
"""How long a failure counts."""

ABSENCE_SECONDS: Final = 30.0
"""How long a mount may be without a server: whoever waits in it cannot be killed meanwhile."""

FIRST_PAUSE_SECONDS: Final = 0.1
"""Pause after the second failure in a row; it doubles with each further one."""

LONGEST_PAUSE_SECONDS: Final = 2.5
"""The longest pause; with the limits above the absence stays below its own."""

FROM_OUTSIDE: Final = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
)
"""Signals that a process does not send to itself by a fault of its own."""


class NextStep(Enum):
    """What is done."""

    FINISH = "finish"
    TAKE_DOWN = "take down"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ended.

    `status` as `subprocess` gives it (negative: a signal); `served`: it had taken the device over.
    """

    status: int
    served: bool

    @property
    def is_failure(self) -> bool:
        """Whether it speaks against starting another."""
        return not (self.served and -self.status in FROM_OUTSIDE)

    def __str__(self) -> str:
        if self.status >= 0:
            how = f"exited with status {self.status}"
        else:
            how = f"was ended by {signal_name(-self.status)}"
        return how if self.served else f"{how} before it served"


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision rests on; times in seconds of one clock.

    `connected`: the kernel's connection lives; `mounted`: the mount is in the tree; `ending`: the
    holder was told to end; `failures`: when servers failed, the last one included, oldest first.
    """

    connected: bool
    mounted: bool
    ending: bool
    failures: Sequence[float]
    now: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The step, the pause before a restart in seconds, and why a mount is taken down."""

    step: NextStep
    pause: float = 0.0
    reason: str = ""


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; of a number without a name, the number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def recent(failures: Sequence[float], now: float) -> list[float]:
    """The failures that still count."""
    return [at for at in failures if now - at < FAILURE_WINDOW_SECONDS]


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: none at first, then growing."""
    if failures <= 1:
        return 0.0
    doubled: float = FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 2, 30)
    return min(doubled, LONGEST_PAUSE_SECONDS)


def after_server(situation: Situation, ending: Ending) -> Decision:
    """What is done after a server's end."""
    if not situation.connected:
        if not situation.mounted:
            return Decision(NextStep.FINISH)
        return Decision(NextStep.TAKE_DOWN, reason="its connection to the kernel was aborted")
    if situation.ending:
        return Decision(NextStep.TAKE_DOWN, reason="it was told to end")
    count = len(recent(situation.failures, situation.now))
    if count >= FAILURE_LIMIT:
        return Decision(
            NextStep.TAKE_DOWN,
            reason=f"{count} servers failed within {FAILURE_WINDOW_SECONDS:g} s; the last one "
            f"{ending}",
        )
    return Decision(NextStep.RESTART, pause_after(count) if ending.is_failure else 0.0)
