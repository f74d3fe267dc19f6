"""Members that failed lately and are left out for a while: a circuit breaker for each.

After a failure a member is not asked for a pause, then once, to see; each further failure doubles
the pause, one success forgets them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

FIRST_PAUSE_SECONDS: Final = 0.5
"""A worker that was killed is back within a second: its supervisor starts it again."""

LONGEST_PAUSE_SECONDS: Final = 10.0
"""A probe costs the reader that makes it about a second; so at most a tenth of its time."""


class _Failing(NamedTuple):
    """Until when a member is left out, for how long this time, and whether a probe is under way."""

    until: float
    pause: float
    probing: bool = False


class PeerHealth:
    """Which members to ask; for one thread. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """All are well."""
        self._clock = clock
        self._failing: dict[str, _Failing] = {}

    def is_well(self, name: str) -> bool:
        """Whether a member has not failed since it last gave something."""
        return name not in self._failing

    def may_ask(self, name: str) -> bool:
        """Whether a member is to be asked now: it is well, or this is the one probe after a pause,
        whose outcome others wait for (as long as that pause, should it never tell).
        """
        failing = self._failing.get(name)
        if failing is None:
            return True
        now = self._clock()
        if now < failing.until:
            return False
        self._failing[name] = _Failing(now + failing.pause, failing.pause, True)
        return True

    def failed(self, name: str) -> None:
        """A member gave no answer in time, or a wrong one.

        Requests that were under way when it failed fail after one another: that counts once.
        """
        failing = self._failing.get(name)
        if failing is None:
            pause = FIRST_PAUSE_SECONDS
        elif failing.probing:
            pause = min(failing.pause * 2, LONGEST_PAUSE_SECONDS)
        else:
            return
        self._failing[name] = _Failing(self._clock() + pause, pause)

    def succeeded(self, name: str) -> None:
        """A member gave what it was asked for."""
        self._failing.pop(name, None)
