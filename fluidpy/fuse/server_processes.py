"""The processes that a holder starts: a template, and the servers that it forks.

The holder adopts servers (it is their *subreaper*, see prctl(2)), so that it learns how they ended
although the template forked them, and also when the template is gone.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fluidpy.fuse import control

SEND_SECONDS: Final = 5.0
"""How long a server may leave a message of the holder in a full socket."""

STATUS_SECONDS: Final = 0.1
"""How long the exit status of a server that closed its socket is waited for."""

_PR_SET_CHILD_SUBREAPER: Final = 36
"""prctl(2), from <linux/prctl.h>."""

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Makes this process the parent of its descendants whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class EndedProcesses:
    """Exit statuses of our children, asked of the kernel once for all of them."""

    def __init__(self) -> None:
        """Knows of none yet."""
        self._statuses: dict[int, int] = {}

    def collect(self) -> None:
        """Notes who has ended since; nobody stays a zombie."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._statuses[pid] = os.waitstatus_to_exitcode(status)

    def status_of(self, server: ServerProcess) -> int:
        """The exit status of a server that closed its socket; of one that does not end at once,
        because the kernel keeps a thread of it, that of a killed one.
        """
        if not server.await_end(STATUS_SECONDS):
            server.kill()
            return -signal.SIGKILL
        self.collect()
        return self._statuses.pop(server.pid, 1)

    def forget(self) -> None:
        """Drops what nobody asked for: workers that servers started, ended templates."""
        self._statuses.clear()


class ServerProcess:
    """A server that was asked for, and the socket shared with it.

    It is known by its pid once it said so, and held by a pidfd: nobody else is ended in its place
    when its number has been given away.
    """

    def __init__(self, channel: socket.socket) -> None:
        """`channel` leads to it."""
        self.channel = channel
        self.pid = 0
        self.serving = False
        self.answers = False
        """Whether it says that it lives when it is asked: servers of older code do not."""
        self._handle = -1

    def started(self, pid: int) -> None:
        """It said who it is."""
        self.pid = pid
        with suppress(OSError):  # it has ended already
            self._handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """Ends it by force; one that has not said its pid ends when it finds its socket closed."""
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def await_end(self, seconds: float) -> bool:
        """Whether the process has ended, all of it, within the time; false of an unknown one."""
        if self._handle < 0:
            return self.pid != 0
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def leader_ended(self) -> bool:
        """Whether the process ended but for a thread that the kernel keeps waiting."""
        if not self.pid:
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return True
        return state == "Z"

    def release(self) -> None:
        """Lets go of the process, which has ended or was told to."""
        self.channel.close()
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        """Lets go of the process."""
        self.release()


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Which Python and which code a template runs; by default those of this process."""

    executable: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Template:
    """The process that has a server's code in memory and forks servers."""

    def __init__(self, interpreter: Interpreter) -> None:
        """Starts it; it needs a moment until it forks, and requests wait for that."""
        self.interpreter = interpreter
        ours, theirs = control.socket_pair()
        ours.settimeout(SEND_SECONDS)
        with theirs:
            process = subprocess.Popen(
                [
                    interpreter.executable,
                    "-m",
                    "fluidpy.fuse.template_process",
                    "--control",
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env=dict(interpreter.environment),
            )
        process.returncode = 0  # `EndedProcesses` waits for it, not this object
        self.pid = process.pid
        self.channel = ours

    def fork_server(self) -> ServerProcess:
        """Asks for a server; its first order may be sent at once.

        With the template gone its socket is closed: that server ended before it served.
        """
        ours, theirs = control.socket_pair()
        ours.settimeout(SEND_SECONDS)
        with theirs:
            control.tell(self.channel, {"fork": {}}, (theirs.fileno(),))
        return ServerProcess(ours)

    def end(self) -> None:
        """Throws it away; servers that it forked stay."""
        self.channel.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
