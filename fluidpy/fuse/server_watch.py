"""A server that is there and answers nothing: stopped, or stuck in something that does not end.

Whoever reads the mount waits for it, and nobody else would notice. So the holder asks each server
now and then for a sign of life, and ends one that gave none for long; the next server answers what
it left. Checks are counted, not seconds: a machine that slept, or a container that was frozen, has
its servers asked again before they count as hung.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from fluidpy.fuse import control
from fluidpy.fuse.server_processes import ServerProcess

CHECK_SECONDS: Final = 1.0
"""How often a holder looks at its server."""

HUNG_CHECKS: Final = 15
"""So many checks without an answer, and a server is ended."""

GONE_CHECKS: Final = 5
"""So many checks after the mount is gone, a server that has not seen it is ended."""

RECENT_SECONDS: Final = 600.0
"""How long a hung server has those that follow waited for longer: what made it hang (a disk that
does not answer, say) may make all of them, and a process stuck in the kernel cannot be ended."""


def patience(hangs: Sequence[float], now: float) -> int:
    """How many checks a server may leave unanswered, after servers that hung at these times."""
    recent = sum(1 for at in hangs if now - at < RECENT_SECONDS)
    return HUNG_CHECKS << min(recent, 5)


class ServerWatch:
    """Says when a server has to be ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._hangs: list[float] = []
        self._asked: ServerProcess | None = None
        self._checks = 0
        self._gone = 0

    def check(self, server: ServerProcess | None, *, connected: bool) -> str:
        """Why the server has to be ended, if there is one; empty when it has not to.

        `connected`: the mount is there. To be called every `CHECK_SECONDS`.
        """
        self._gone = 0 if connected else self._gone + 1
        if self._gone >= GONE_CHECKS:
            return "does not see that its mount is gone"
        if server is None or not server.serving:
            return ""
        if server.leader_ended():
            return "ended but for a thread that the kernel keeps"
        return "answers nothing" if server.answers and self._hangs_now(server) else ""

    def _hangs_now(self, server: ServerProcess) -> bool:
        if self._asked is not server:
            self._asked, self._checks = server, 0
            control.tell(server.channel, {"ping": {}})
            return False
        self._checks += 1
        now = self._clock()
        if self._checks < patience(self._hangs, now):
            return False
        self._hangs = [*(at for at in self._hangs if now - at < RECENT_SECONDS), now]
        self._asked = None
        return True

    def answered(self, server: ServerProcess) -> None:
        """It gave its sign of life."""
        if self._asked is server:
            self._asked = None
