"""Requests of the kernel that wait for the worker, so that each is answered exactly once.

An INTERRUPT answers a waiting request with EINTR when its caller is to end, now or later; what the
worker says after that finds it gone.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Final

from fluidpy.errors import FluidpyError, PathNotFoundError, errno_of
from fluidpy.fuse.device import Device
from fluidpy.fuse.pending_signals import thread_wants_to_end

_logger = logging.getLogger(__name__)

QUIET_SECONDS: Final = 60.0
"""The same trouble is written to the log once in this time."""

COMPANY: Final = 4
"""So many requests in a row have to be of one thread before it counts as the only one."""

_MOST_REMEMBERED: Final = 1000


class TroubleLog:
    """Writes failures to the mount's log: which mount, which path, why, and what to do."""

    def __init__(self, mount: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`mount` is what lines call the mount: Dataset and directory."""
        self._mount = mount
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def report(self, path: str, error: FluidpyError) -> None:
        """Says it, unless the same was said a short while ago; then it is counted only."""
        now = self._clock()
        text = str(error)
        said_at, hidden = self._said.get(text, (-QUIET_SECONDS, 0))
        if now - said_at < QUIET_SECONDS:
            self._said[text] = (said_at, hidden + 1)
            return
        if len(self._said) >= _MOST_REMEMBERED:
            self._said.clear()
        self._said[text] = (now, 0)
        again = f" ({hidden} more in between)" if hidden else ""
        _logger.error("%s: %s: %s%s", self._mount, path, text, again)


class RequestsInFlight:
    """The `unique`s of requests that are not answered yet."""

    def __init__(
        self,
        device: Device,
        trouble: TroubleLog,
        wants_to_end: Callable[[int], bool] = thread_wants_to_end,
    ) -> None:
        """Answers go to `device`, failures are also reported to `trouble`.

        `wants_to_end` says of a thread whether it has to be told EINTR.
        """
        self._device = device
        self._trouble = trouble
        self._wants_to_end = wants_to_end
        self._waiting: dict[int, int] = {}
        self._interrupted: set[int] = set()
        self.thread = 0
        """The thread whose request is looked at just now."""
        self.company = 0
        """Above 0: the last requests are not all of one thread, so others may wait by now."""

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, unique: int) -> None:
        """This request is going to wait."""
        self._waiting[unique] = self.thread

    def waits(self, unique: int) -> bool:
        """Whether the request still wants its answer."""
        return unique in self._waiting

    def take(self, unique: int) -> bool:
        """Claims the right to answer; false when the request was answered or given up."""
        if self._waiting.pop(unique, None) is None:
            return False
        self._interrupted.discard(unique)
        return True

    def reply(self, unique: int, payload: bytes = b"") -> None:
        """Answers a waiting request, unless it was given up."""
        if self.take(unique):
            self._device.reply(unique, payload)

    def fail(self, unique: int, path: str, error: FluidpyError) -> None:
        """Answers with the error's errno, and writes to the log what a user cannot see in it."""
        if not isinstance(error, PathNotFoundError):
            self._trouble.report(path, error)
        if self.take(unique):
            self._device.reply_error(unique, errno_of(error))

    def interrupt(self, unique: int) -> None:
        """A signal came to the caller: EINTR if it is to end, else the request goes on waiting.

        The kernel says so once for each request; `check_interrupted` looks for later signals.
        """
        thread = self._waiting.get(unique)
        if thread is None:  # it is being answered already
            return
        if self._wants_to_end(thread):
            self.take(unique)
            self._device.reply_error(unique, errno.EINTR)
        else:
            self._interrupted.add(unique)

    def check_interrupted(self) -> None:
        """Looks again at the callers that a signal came to and that go on waiting."""
        for unique in list(self._interrupted):
            self.interrupt(unique)
