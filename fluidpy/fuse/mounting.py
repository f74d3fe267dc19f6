"""Mounting a Dataset, unmounting it, and the list of mounts: what the commands call."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from fluidpy.client.background_start import Detached
from fluidpy.client.start import prepare_runtime_directory, worker_environment
from fluidpy.errors import MountError, from_wire
from fluidpy.fuse import control, kernel_mount
from fluidpy.fuse.busy_processes import find_busy
from fluidpy.fuse.mount_checks import check_mount_point, plain_path
from fluidpy.fuse.mount_probe import probe
from fluidpy.fuse.mount_record import (
    MountRecord,
    log_path,
    read_record,
    read_records,
    record_path,
    remove_record,
)
from fluidpy.fuse.mount_table import mounted_at, shown_elsewhere
from fluidpy.fuse.read_mode_checks import check_read_mode
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

END_SECONDS: Final = 30.0
"""How long `unmount` waits for the processes of a mount to end."""

_NAMED_PROCESSES: Final = 5
"""How many users of a busy mount an error names."""


_started: list[Detached] = []


def mount_dataset(
    definition: DatasetDefinition,
    directory: Path,
    settings: Settings,
    *,
    foreground: bool,
    file: Path | None,
    deadline: float,
    url: str | None = None,
    allow_non_empty: bool = False,
    read_mode: str = "auto",
    on_ready: Callable[[MountRecord], None] | None = None,
) -> MountRecord:
    """Mounts a Dataset; returns once `ls DIRECTORY` works, or, in the foreground, has ended.

    `file` and `url` say where the Dataset was declared; `deadline` is in seconds, until it is
    ready; `read_mode` is one of `read_modes.ASKED`; `on_ready` hears when it is ready. In the
    foreground SIGINT and SIGTERM unmount. Raises MountError, and what worker and source say of the
    Dataset; nothing stays mounted then.
    """
    limit = time.monotonic() + deadline
    directory = plain_path(directory)
    check_mount_point(directory, definition, settings, allow_non_empty=allow_non_empty)
    kernel_mount.check_possible()
    check_read_mode(read_mode)
    prepare_runtime_directory(settings.runtime_dir)
    _started[:] = [process for process in _started if process.poll() is None]
    order = control.HolderOrder(definition, directory, file, url, deadline, read_mode)
    with _signals(foreground) as stop, ExitStack() as until_ready:
        until_ready.enter_context(_alone_at(directory, settings))
        # Again: somebody else may have mounted here between the first look and the lock.
        check_mount_point(directory, definition, settings, allow_non_empty=allow_non_empty)
        holder, channel = _start_holder(order, settings)
        try:
            with channel:
                record = _await_ready(channel, directory, settings, limit)
            _check_listing(directory, limit)
            until_ready.close()
            if on_ready is not None:
                on_ready(record)
        except BaseException:  # KeyboardInterrupt, too, leaves nothing mounted
            _end_holder(holder)
            raise
        if foreground:
            _stay(holder, stop, directory, settings)
        else:
            _started.append(holder)
    return record


@contextmanager
def _alone_at(directory: Path, settings: Settings) -> Iterator[None]:
    """Keeps others from mounting at the directory meanwhile: mounts would stack, unseen.

    The lock is on the log, by an fd of its own that no process inherits. A log that says nothing
    goes with the mount that failed. Raises MountError at once when another process has the lock.
    """
    path = log_path(settings, directory)
    try:
        fd = _lock_log(path)
    except BlockingIOError:
        raise MountError(
            f"another process is mounting at {directory} just now",
            cure="Choose another directory, or look again when it is done: fluidpy status",
        ) from None
    try:
        yield
    except BaseException:
        # With a mount there it is the log of that one: somebody else was a moment quicker.
        if os.fstat(fd).st_size == 0 and mounted_at(directory) is None:
            path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _lock_log(path: Path) -> int:
    """The locked log. Raises BlockingIOError."""
    while True:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # of a mount that failed and removed it just now


def _start_holder(order: control.HolderOrder, settings: Settings) -> tuple[Detached, socket.socket]:
    log = os.open(
        log_path(settings, order.directory),
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC,
        0o600,
    )
    ours, theirs = control.socket_pair()
    try:
        control.tell(ours, order.to_wire())
        holder = Detached(
            [sys.executable, "-m", "fluidpy.fuse.holder", "--control", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            cwd="/",
            env=worker_environment(settings),
        )
    finally:
        theirs.close()
        os.close(log)
    return holder, ours


def _await_ready(
    channel: socket.socket, directory: Path, settings: Settings, limit: float
) -> MountRecord:
    try:
        received = control.hear(channel, limit + 1.0)  # the holder's own word comes first
    except MountError:
        raise MountError(
            f"{directory} was not mounted within the deadline",
            cure=f"Look at {log_path(settings, directory)} and worker.log beside it.",
        ) from None
    message = {} if received is None else received.message
    if "ready" in message:
        return MountRecord.from_wire(message["ready"])
    if "failed" in message:
        raise from_wire(message["failed"])
    raise MountError(
        f"the holder of {directory} ended at once",
        cure=f"Look at {log_path(settings, directory)}.",
    )


def _check_listing(directory: Path, limit: float) -> None:
    error = probe(lambda: next(directory.iterdir(), None), limit - time.monotonic())
    if error is not None:
        raise MountError(
            f"{directory} was mounted and cannot be listed: {error.strerror}",
            cure="The log of the mount says why.",
        )


def _end_holder(holder: Detached) -> None:
    """Tells the holder to end (it unmounts), and sees to it that it does."""
    holder.terminate()
    holder.end_within(END_SECONDS)


class _signals:  # noqa: N801 - used as a function, like contextlib's own
    """While it lasts, SIGINT and SIGTERM are only noted: its value is the pipe that tells."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._read, self._write = -1, -1

    def __enter__(self) -> int:
        if self._wanted:
            self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._handlers = {
                number: signal.signal(number, lambda _number, _frame: None)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self._read

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._read)
            os.close(self._write)


def _stay(holder: Detached, stop: int, directory: Path, settings: Settings) -> None:
    """Waits for the mount to end; a signal ends it."""
    pidfd = os.pidfd_open(holder.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(stop, select.POLLIN)
    try:
        while not any(fd == pidfd for fd, _ in poll.poll()):
            os.read(stop, 64)
            holder.terminate()
    finally:
        os.close(pidfd)
    if holder.wait() != 0:
        raise MountError(
            f"the mount at {directory} ended by itself",
            cure=f"{log_path(settings, directory)} says why.",
        )


def unmount(directory: Path, settings: Settings, *, lazy: bool = False) -> None:
    """Unmounts, and waits until the processes of the mount have ended.

    `lazy`: a mount in use leaves the tree now and ends with its last user. Raises MountError: not a
    mount of ours, in use (naming by whom).
    """
    directory = plain_path(directory)
    point = mounted_at(directory)
    record = read_record(record_path(settings, directory))
    if point is None:
        remove_record(settings, directory)
        why = "" if record is None or record.failure is None else f" any more: {record.failure}"
        raise MountError(
            f"nothing is mounted at {directory}{why}", cure="`fluidpy status` lists the mounts."
        )
    if not point.ours:
        raise MountError(
            f"{directory} is a mount of {point.file_system}, not of fluidpy",
            cure="Unmount it with umount.",
        )
    try:
        kernel_mount.unmount(directory, lazy=lazy)
    except kernel_mount.BusyMountError:
        raise _busy(directory) from None
    if record is not None and not _await_end(record, 1.0 if lazy else END_SECONDS) and not lazy:
        raise _lives_on(record, point.device, settings)
    remove_record(settings, directory, None if record is None else record.holder_pid)


def _lives_on(record: MountRecord, device: str, settings: Settings) -> MountError:
    """Why the processes of what was unmounted do not end.

    The file system lives on where somebody bound it, or in a container that has a copy of it.
    """
    if places := shown_elsewhere(device):
        return MountError(
            f"{record.mount_point} is unmounted, and still shown at {', '.join(places)}",
            cure="Unmount it there, too (umount), or end those processes; its own end then.",
        )
    return MountError(
        f"{record.mount_point} is unmounted, but its processes {record.holder_pid} and "
        f"{record.server_pid} have not ended",
        cure=f"Look at {log_path(settings, record.mount_point)}.",
    )


def _busy(directory: Path) -> MountError:
    users = find_busy(directory)
    named = ", ".join(f"{u.command} ({u.pid}) with {u.path}" for u in users[:_NAMED_PROCESSES])
    more = f" and {len(users) - _NAMED_PROCESSES} more" if len(users) > _NAMED_PROCESSES else ""
    who = named + more if users else "processes that this user cannot see"
    return MountError(
        f"{directory} is in use by {who}",
        cure="End them, or unmount with --lazy: it then ends when they do.",
    )


def _await_end(record: MountRecord, seconds: float) -> bool:
    limit = time.monotonic() + seconds
    return all(_await_process(pid, limit) for pid in (record.server_pid, record.holder_pid))


def _await_process(pid: int, limit: float) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except (
        OSError
    ):  # gone; or its number is a thread's by now (EINVAL), or no process could have it
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = bool(poll.poll(max(0.0, limit - time.monotonic()) * 1000))
    finally:
        os.close(pidfd)
    if ended:
        with suppress(ChildProcessError):  # it is our child only if this process mounted
            os.waitpid(pid, os.WNOHANG)
    return ended


def list_failures(settings: Settings) -> list[MountRecord]:
    """Mounts of this user that ended without being unmounted, until `umount` or the next mount."""
    return [
        record
        for record in read_records(settings)
        if record.failure is not None and mounted_at(record.mount_point) is None
    ]


def list_mounts(settings: Settings) -> list[MountRecord]:
    """This user's mounts; records of mounts that are gone are removed, unless they say why."""
    mounts = []
    for record in read_records(settings):
        point = mounted_at(record.mount_point)
        if point is not None and point.ours:
            mounts.append(record)
        elif not _await_process(record.holder_pid, 0.0):
            continue  # being unmounted, or unmounted lazily: its holder removes the record
        elif record.failure is None:
            remove_record(settings, record.mount_point, record.holder_pid)
    return mounts
