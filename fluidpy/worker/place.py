"""The place that one worker a user has: a lock, and who had it before.

A worker that is killed lets go of what it had open in no order that one could rely on: the socket
may be gone while it has catalogs and stores locked. So its follower waits until all of it has
ended, by a pid and the time of its start, which together name no other process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fluidpy.errors import WorkerStartError

_log = logging.getLogger(__name__)

LOCK_FILE: Final = "worker.lock"

ENDING_SECONDS: Final = 10.0
"""How long a worker that no longer listens may take to end."""

_STEP_SECONDS: Final = 0.02
"""How often a lock is tried: flock(2) has no time-out of its own."""


def take_place(directory: Path, serves: Callable[[], bool]) -> int | None:
    """The fd of the locked file, to be open as long as the worker lives.

    None when another worker has the place and `serves`. Raises WorkerStartError when it does
    neither serve nor end within `ENDING_SECONDS`.
    """
    path = directory / LOCK_FILE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WorkerStartError(
            f"{path} cannot be made: {error.strerror}", cure="Set FLUIDPY_RUNTIME_DIR."
        ) from error
    limit = time.monotonic() + ENDING_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            pass
        if (there := serves()) or time.monotonic() > limit:
            os.close(fd)
            if there:
                return None
            raise WorkerStartError(
                f"another worker holds {path} and does not listen",
                cure="It is starting or ending: try again in a few seconds.",
            )
        time.sleep(_STEP_SECONDS)


def await_predecessor(place: int) -> None:
    """Waits until whoever had the place before has ended, and notes us as the one who has it."""
    pid, _, started = os.pread(place, 64, 0).decode("ascii", "replace").strip().partition(" ")
    if pid.isdecimal() and not _await_end(int(pid), started):
        _log.warning("the worker before, process %s, has not ended yet", pid)
    os.ftruncate(place, 0)
    os.pwrite(place, f"{os.getpid()} {_started(os.getpid())}\n".encode(), 0)


def _await_end(pid: int, started: str) -> bool:
    """Whether a process has ended within `ENDING_SECONDS`."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # there is none of that number
        return True
    try:
        if _started(pid) != started:
            return True  # the number is another process's by now
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(ENDING_SECONDS * 1000))
    finally:
        os.close(handle)


def _started(pid: int) -> str:
    """When a process started (field 22 of proc_pid_stat(5)); empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
