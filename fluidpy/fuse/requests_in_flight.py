"""Requests of the kernel that wait for the worker, so that each is answered exactly once.

An INTERRUPT answers a waiting request with EINTR; what the worker says later finds it gone.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Final

from fluidpy.errors import FluidpyError, PathNotFoundError, errno_of
from fluidpy.fuse.device import Device

_logger = logging.getLogger(__name__)

QUIET_SECONDS: Final = 60.0
"""The same trouble is written to the log once in this time."""

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

    def __init__(self, device: Device, trouble: TroubleLog) -> None:
        """Answers go to `device`, failures are also reported to `trouble`."""
        self._device = device
        self._trouble = trouble
        self._waiting: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, unique: int) -> None:
        """This request is going to wait."""
        self._waiting.add(unique)

    def waits(self, unique: int) -> bool:
        """Whether the request still wants its answer."""
        return unique in self._waiting

    def take(self, unique: int) -> bool:
        """Claims the right to answer; false when the request was answered or given up."""
        if unique not in self._waiting:
            return False
        self._waiting.remove(unique)
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
        """Answers EINTR if the request waits; otherwise it is being answered already."""
        if self.take(unique):
            self._device.reply_error(unique, errno.EINTR)
