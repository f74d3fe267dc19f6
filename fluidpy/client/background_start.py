"""Processes that outlive whoever starts them, and starting one until it says that it is ready.

`python -m MODULE --ready-fd N` writes one line to that pipe once it serves, `ready` or an error as
JSON, and closes it. Its output goes to a log.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fluidpy.errors import FluidpyError

_log = logging.getLogger(__name__)

KILL_SECONDS: Final = 10.0
"""How long a process that was killed may take to be gone: one that the kernel holds stays."""


class Detached(subprocess.Popen[bytes]):
    """A process that is meant to outlive us: dropping the object neither waits nor warns."""

    def __del__(self) -> None:
        """Leaves the process alone."""

    def end_within(self, seconds: float) -> int | None:
        """Its status once it has ended; it is killed when that takes longer.

        None when it is there even so: it waits in the kernel, as for a dead disk, and is left.
        """
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        try:
            return self.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            _log.error("process %d waits in the kernel, as for a dead disk: it is left", self.pid)
            return None


_started: dict[str, list[Detached]] = {}
"""Processes by module: those that have ended are waited for when the next one is started."""


def start_until_ready(
    module: str,
    log: Path,
    environment: Mapping[str, str],
    limit: float,
    late: FluidpyError,
) -> tuple[Detached, bytes]:
    """A process that runs the module, and the line that it said; what there is of one if it ended.

    Waits until `limit` (a time of the monotonic clock), ends the process then and raises `late`.
    Raises OSError when none can be started.
    """
    ready, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            process = _start(module, log, environment, theirs)
        finally:
            os.close(theirs)
        return process, _said(ready, process, limit, late)
    finally:
        os.close(ready)


def _start(module: str, log: Path, environment: Mapping[str, str], ready: int) -> Detached:
    known = _started.setdefault(module, [])
    known[:] = [process for process in known if process.poll() is None]
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = Detached(
            [sys.executable, "-m", module, "--ready-fd", str(ready)],
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(ready,),
            start_new_session=True,
            cwd="/",
            env=environment,
        )
    finally:
        os.close(log_fd)
    known.append(process)
    return process


def _said(ready: int, process: Detached, limit: float, late: FluidpyError) -> bytes:
    said = b""
    while not said.endswith(b"\n"):
        if not wait_ready(ready, select.POLLIN, limit - time.monotonic()):
            process.end_within(0)
            raise late
        piece = os.read(ready, 65536)
        if not piece:
            break
        said += piece
    return said


def wait_ready(fd: int, events: int, seconds: float) -> bool:
    """Whether the fd became ready for `events` (of `select.poll`) in time.

    Not by select(2), which refuses fds from 1024 up: programs with many open files have those.
    """
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(max(0.0, seconds) * 1000))
