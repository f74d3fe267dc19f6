"""Keeps one program running that mounts: `python -m fluidpy.control.process_supervisor DIRECTORY`.

The program is ready when the mount that is expected of it is in the kernel's table and can be
listed. It is started again, after a growing pause, when it ends or when its mount is wrong, goes
away or never comes; `state.json` says which. Its output goes to `client.log`, without secrets.

The supervisor outlives whoever started it, and SIGTERM ends it: then the program gets SIGTERM, is
waited for, what it mounted is unmounted, and all that is left of it is killed.
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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fluidpy.control import linux_processes as linux
from fluidpy.control import mount_verdicts as verdicts
from fluidpy.control.client_log import ClientLog
from fluidpy.control.process_order import (
    FAILED,
    LOCK_FILE,
    LOG_FILE,
    READY,
    STARTING,
    STOPPING,
    ProcessOrder,
    ProcessState,
)
from fluidpy.control.redaction import Redactor
from fluidpy.storage.local_files import UNMOUNTED_MODE

PAUSES: Final = (0.2, 1.0, 5.0, 15.0)
"""Seconds before a program that failed is started again; the last one repeats."""

STEADY_SECONDS: Final = 30.0
"""A program that was ready for so long begins with the first pause again."""

READS_A_TURN: Final = 16
"""Pieces of 64 KiB that are read of a program's output before the supervisor looks around."""

UNSAID_SECONDS: Final = 1.0
"""A state that could not be written, as on a full disk, is written again after so long."""

MARK_VARIABLE: Final = "FLUIDPY_RUNTIME_PROCESS"
"""In the environment of the program: the supervisor's directory, so that its processes are found
should the supervisor be killed."""

LOCK_SECONDS: Final = 1.0
"""How long the lock of a directory may be held before another supervisor has it."""

PASSED_ON: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
                    "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
"""Variables that the program gets beside its own; others of ours may hold secrets."""


class Supervisor:
    """One program, from its first start to its end."""

    def __init__(self, directory: Path, order: ProcessOrder) -> None:
        """Starts nothing yet."""
        self._directory, self._order = directory, order
        self._state = ProcessState(STARTING, order.digest(), os.getpid())
        self._redactor = Redactor(order.redacted)
        self._log = ClientLog(directory / LOG_FILE)
        self._stopping = False
        self._unsaid = False
        self._awaited: set[int] = set()
        """Children whose ends are waited for; others are orphans of the program."""
        self._output = -1
        self._poll = select.poll()
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll.register(self._table, select.POLLPRI | select.POLLERR)
        self._signals = self._hear_signals()

    def run(self) -> None:
        """Until SIGTERM. Raises OSError for a directory that cannot be used.

        However it ends, neither processes nor mounts are left.
        """
        linux.adopt_orphans()
        self._prepare()
        try:
            self._keep()
        finally:
            self._clear()
            self._undo()

    def _keep(self) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            verdict = self._live_once()
            if self._stopping:
                break
            self._clear()
            failures = 1 if time.monotonic() - begun > STEADY_SECONDS else failures + 1
            self._log.note(verdict)
            self._say(state=FAILED, client=0, failure=verdict, restarts=self._state.restarts + 1)
            self._wait(PAUSES[min(failures, len(PAUSES)) - 1], lambda: False)
        self._say(state=STOPPING, client=0)

    def _hear_signals(self) -> int:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(reading, select.POLLIN)
        return reading

    def _end(self, *_: object) -> None:
        self._stopping = True

    def _prepare(self) -> None:
        """Makes the place to mount at; takes away what an earlier supervisor left there."""
        if not self._order.target:
            return
        target = Path(self._order.target)
        self._clear()
        self._undo()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._has_own_view:
            linux.share(target.parent)
            for place in self._order.binds:
                Path(place).mkdir(mode=0o755, parents=True, exist_ok=True)
        target.mkdir(mode=0o700, exist_ok=True)
        target.chmod(UNMOUNTED_MODE)

    @property
    def _has_own_view(self) -> bool:
        return bool(self._order.binds) and linux.may_mount()

    def _undo(self) -> None:
        if self._order.target:
            parent = os.path.dirname(self._order.target)  # noqa: PTH120 - text, as in the table
            linux.unmount(parent)

    def _live_once(self) -> str:
        """One life of the program; what was wrong at its end. Empty when it is told to stop."""
        before = linux.mount_table()
        try:
            program = self._start()
        except OSError as error:
            return verdicts.not_started(self._order, error)
        self._awaited = {program.pid}
        self._say(state=STARTING, client=program.pid)
        verdict = self._until_ready(program, before)
        if not verdict and not self._stopping:
            self._say(state=READY, failure="")
            verdict = self._until_lost(program)
        if self._stopping:
            self._stop(program)
        self._read_output()
        return verdict

    def _start(self) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        own_view = self._has_own_view
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}

        def in_child() -> None:
            linux.die_with_parent()
            if own_view:
                linux.take_own_view(self._order.binds)

        try:
            program = subprocess.Popen(
                self._order.arguments,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd="/",
                env={**kept, **self._order.environment, MARK_VARIABLE: str(self._directory)},
                start_new_session=True,
                umask=0o022,  # as in a container
                preexec_fn=in_child,
            )
        except subprocess.SubprocessError as error:
            os.close(reading)
            raise OSError(f"it cannot be given {', '.join(self._order.binds)}") from error
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        if self._output >= 0:
            self._close_output()
        self._output = reading
        self._poll.register(reading, select.POLLIN)
        return program

    def _until_ready(self, program: subprocess.Popen[bytes], before: Sequence[object]) -> str:
        """Empty once the mount is there and answers."""
        if not self._order.target:
            return ""
        begun = time.monotonic()
        limit = begun + self._order.ready_seconds
        self._wait(limit - time.monotonic(), lambda: self._ended(program) or self._mounted())
        if self._stopping:
            return ""
        if self._ended(program):
            return verdicts.ended_early(self._order, self._code(program), self._last_line())
        if (kind := self._type()) is None:
            elsewhere = self._mounted_elsewhere(program.pid, before)
            return verdicts.not_mounted(self._order, elsewhere, self._last_line())
        if self._order.filesystem_type not in ("", kind):
            return verdicts.wrong_type(self._order, kind)
        return self._probe(limit)

    def _mounted_elsewhere(self, pid: int, before: Sequence[object]) -> list[str]:
        """Where the program has mounted instead: others mount as well, in the view of all."""
        all_see, beside = linux.mount_table(), os.path.dirname(self._order.target)  # noqa: PTH120 - text
        new = (mount for mount in linux.mount_table(pid) if mount not in before)
        return [
            mount.mount_point
            for mount in new
            if mount.mount_point not in self._order.binds
            and (mount not in all_see or mount.mount_point.startswith(f"{beside}/"))
        ]

    def _probe(self, limit: float) -> str:
        """Lists the mount in a process of its own, which may hang; empty if that went well."""
        child = os.fork()
        if child == 0:
            os._exit(_list_once(self._order.target))
        self._awaited.add(child)
        codes: list[int] = []

        def has_answered() -> bool:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                codes.append(os.waitstatus_to_exitcode(status))
            return bool(pid)

        self._wait(max(0.5, limit - time.monotonic()), has_answered)
        if not codes:
            # It is not waited for: while the mount's server has its question, the kernel holds it.
            os.kill(child, signal.SIGKILL)
            self._awaited.discard(child)
            return "" if self._stopping else verdicts.silent(self._order)
        return verdicts.unreadable(self._order, codes[0], self._last_line()) if codes[0] else ""

    def _until_lost(self, program: subprocess.Popen[bytes]) -> str:
        self._wait(None, lambda: self._ended(program) or not self._mounted())
        if self._stopping:
            return ""
        if self._ended(program):
            return verdicts.ended(self._order, self._code(program), self._last_line())
        return verdicts.unmounted(self._order)

    def _stop(self, program: subprocess.Popen[bytes]) -> None:
        self._say(state=STOPPING)
        with contextlib.suppress(ProcessLookupError):
            program.terminate()
        limit = time.monotonic() + self._order.stop_seconds
        while not self._ended(program) and (left := limit - time.monotonic()) > 0:
            self._listen(left)
        if not self._ended(program):
            self._say(killed=True)
            self._log.note(verdicts.ignored_sigterm(self._order))

    def _clear(self) -> None:
        """Kills what is left of the program, then unmounts, which a hung server would delay."""
        linux.kill_children()
        for pid in linux.processes_with(MARK_VARIABLE, str(self._directory)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if self._order.target:
            linux.unmount(self._order.target, self._order.unmount)
            linux.unmount_below(os.path.dirname(self._order.target))  # noqa: PTH120 - as above

    def _wait(self, seconds: float | None, until: Callable[[], bool]) -> None:
        """Until `until()` is true, a signal says stop, or the time is up."""
        limit = None if seconds is None else time.monotonic() + seconds
        while not self._stopping and not until():
            left = None if limit is None else limit - time.monotonic()
            if left is not None and left <= 0:
                return
            self._listen(left)

    def _listen(self, seconds: float | None) -> None:
        """Hears of the next thing that happens."""
        if self._unsaid:
            self._write_state()
        if self._unsaid:
            seconds = UNSAID_SECONDS if seconds is None else min(seconds, UNSAID_SECONDS)
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000 + 1):
            if fd == self._signals:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 512)
                linux.reap_children(besides=self._awaited)
            elif fd == self._output:
                self._read_output()

    def _read_output(self) -> None:
        if self._output < 0:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(READS_A_TURN):
                chunk = os.read(self._output, 65536)
                if not chunk:
                    self._close_output()
                    break
                self._log.write(self._redactor.lines(chunk))
        if self._redactor.hidden != self._state.hidden:
            self._say(hidden=self._redactor.hidden)

    def _close_output(self) -> None:
        self._log.write(self._redactor.end())
        self._poll.unregister(self._output)
        os.close(self._output)
        self._output = -1

    def _ended(self, program: subprocess.Popen[bytes]) -> bool:
        return program.poll() is not None

    def _code(self, program: subprocess.Popen[bytes]) -> int:
        return int(program.returncode)

    def _type(self) -> str | None:
        return linux.type_at(self._order.target, linux.mount_table())

    def _mounted(self) -> bool:
        return not self._order.target or self._type() is not None

    def _last_line(self) -> str:
        self._read_output()
        return self._log.last_line()

    def _say(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._write_state()

    def _write_state(self) -> None:
        """Where it cannot be written, as on a full disk, the program is kept all the same."""
        try:
            self._state.write(self._directory)
        except OSError as error:
            if not self._unsaid:
                self._log.note(f"the state cannot be written, and is tried again: {error}")
            self._unsaid = True
        else:
            self._unsaid = False


def _list_once(target: str) -> int:
    """0, or the errno, of listing a directory as far as its first entry."""
    try:
        os.statvfs(target)
        with os.scandir(target) as entries:
            next(entries, None)
    except OSError as error:
        return error.errno or 255
    return 0


def take(lock: int, seconds: float = LOCK_SECONDS) -> bool:
    """Takes the lock; whoever looks if somebody has it holds it for a moment himself."""
    limit = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                return False
            time.sleep(0.01)  # flock has no time-out of its own
        else:
            return True


def main(arguments: Sequence[str]) -> int:
    """Keeps the program of a directory running; 0 once it has ended, 3 if another one does."""
    directory = Path(arguments[0])
    os.umask(0o077)
    lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not take(lock):
        return 3
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    Supervisor(directory, ProcessOrder.read(directory)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
