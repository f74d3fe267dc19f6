"""One process that is kept running by a supervisor, seen from outside: begin, look, end.

The supervisor outlives this process. Whoever comes next finds it by the lock on its directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from fluidpy.client.background_start import Detached
from fluidpy.control import linux_processes as linux
from fluidpy.control.process_order import (
    FAILED,
    LOCK_FILE,
    READY,
    ProcessOrder,
    ProcessState,
)
from fluidpy.control.process_supervisor import MARK_VARIABLE
from fluidpy.errors import ControlPlaneError
from fluidpy.runtime.driver import SeenProcess

END_SECONDS: Final = 30.0
"""How long a supervisor may take to end beyond what its program may take."""

SUPERVISOR_LOG: Final = "supervisor.log"


class KeptProcess:
    """A process with a directory of its own; all calls but `end` return at once."""

    def __init__(self, directory: Path) -> None:
        """`directory` is made when it is needed; only its owner may look into it."""
        self.directory = directory
        self._supervisor: Detached | None = None

    def begin(self, order: ProcessOrder) -> None:
        """Has a supervisor follow the order, unless one does so already.

        Raises ControlPlaneError; also when one follows another order: `end` it first.
        """
        if (pid := self.supervisor_pid()) is not None:
            state = self.state()
            if state is not None and state.digest == order.digest():
                return
            raise ControlPlaneError(
                f"{order.name} is kept running by process {pid} as it was declared before",
                cure="Wait until that has ended.",
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ProcessState("Starting", order.digest()).write(self.directory)
        order.write(self.directory)
        with open(self.directory / SUPERVISOR_LOG, "ab", opener=_private) as log:
            self._supervisor = Detached(
                [sys.executable, "-m", "fluidpy.control.process_supervisor", str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def state(self) -> ProcessState | None:
        """What the supervisor said last; None if there never was one."""
        return ProcessState.read(self.directory)

    def follows(self, order: ProcessOrder) -> bool:
        """Whether a supervisor follows this order now."""
        state = self.state()
        return (
            state is not None
            and state.digest == order.digest()
            and (self.supervisor_pid() is not None or self._is_starting())
        )

    def seen(self) -> SeenProcess:
        """What is seen of it, for drivers."""
        state = self.state()
        if state is None or (self.supervisor_pid() is None and not self._is_starting()):
            return SeenProcess(running=False, ready=False, failure=self._why_gone())
        return SeenProcess(
            running=bool(state.client),
            ready=state.state == READY,
            restarts=state.restarts,
            failure=state.failure if state.state != READY else "",
        )

    def failed(self) -> bool:
        """Whether its last life ended with a failure."""
        state = self.state()
        return state is not None and state.state == FAILED

    def supervisor_pid(self) -> int | None:
        """The process that holds the lock; None if none does."""
        try:
            fd = os.open(self.directory / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.pread(fd, 16, 0) or b"0") or None
        finally:
            os.close(fd)
        return None

    def end(self, seconds: float = END_SECONDS) -> ProcessState | None:
        """Ends supervisor and program, unmounts, and removes the directory; its last state.

        Blocks; by force once `seconds` have gone by beyond what its program may take to stop.
        Raises ControlPlaneError if it outlives that.
        """
        order = self._order()
        limit = time.monotonic() + seconds + self.stop_seconds
        self._await_start(limit)
        if (pid := self.supervisor_pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                _end(pid, limit)
        self._reap()
        self._sweep(order)
        if self.supervisor_pid() is not None:
            raise ControlPlaneError(
                f"process {pid} of {self.directory} does not end", cure="Kill it, and try again."
            )
        last = self.state()
        linux.remove_tree(self.directory)
        return last

    @property
    def stop_seconds(self) -> float:
        """How long its program may take to stop."""
        order = self._order()
        return 0.0 if order is None else order.stop_seconds

    def _order(self) -> ProcessOrder | None:
        """What a supervisor was asked for last; None if that cannot be read."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return ProcessOrder.read(self.directory)
        return None

    def _sweep(self, order: ProcessOrder | None) -> None:
        """What a supervisor that was killed has left: processes, mounts."""
        for pid in linux.processes_with(MARK_VARIABLE, str(self.directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if order is not None and order.target:
            parent = str(Path(order.target).parent)
            linux.unmount(order.target, order.unmount)
            linux.unmount_below(parent)
            linux.unmount(parent)

    def _is_starting(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def _await_start(self, limit: float) -> None:
        """A supervisor that was started a moment ago has no lock yet."""
        while self._is_starting() and self.supervisor_pid() is None and time.monotonic() < limit:
            time.sleep(0.02)  # a lock that is about to be taken cannot be waited for

    def _reap(self) -> None:
        if self._supervisor is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(1.0)
            self._supervisor = None

    def _why_gone(self) -> str:
        """The end of what a supervisor said that could not run."""
        with contextlib.suppress(OSError):
            lines = (self.directory / SUPERVISOR_LOG).read_text(errors="replace").splitlines()
            if lines:
                return f"its supervisor ended: {lines[-1][:200]}"
        return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _end(pid: int, limit: float) -> None:
    """SIGTERM, and SIGKILL once the time is up."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not poll.poll(max(0.0, limit - time.monotonic()) * 1000):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            poll.poll(5000)
    finally:
        os.close(fd)
