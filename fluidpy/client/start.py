"""Reaching this user's worker: connect to its socket, or start it and wait until it listens.

A worker is started as `python -m fluidpy.worker --ready-fd N`: on that pipe it writes the line
`ready` once its socket listens, or a JSON error (`FluidpyError.to_wire`), and closes it. Its output
goes to `worker.log` in the runtime directory. One start at a time, by a lock on
`worker-start.lock`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.background_start import Detached, start_until_ready
from fluidpy.errors import (
    FluidpyError,
    WorkerError,
    WorkerStartError,
    WorkerTimeoutError,
    from_wire,
)
from fluidpy.settings import Settings, default_cache_dir

STARTS: Final = 3
"""How often a worker is started that somebody kills before it serves."""

_SUN_PATH_BYTES: Final = 107
"""Longest path of a unix socket in bytes (`sun_path` of unix(7), less the closing zero)."""

_LOG_TAIL_BYTES: Final = 2000
"""How much of the log an error about a failed start shows."""

_CONNECT_SECONDS: Final = 10
"""How long a busy worker may take to accept a client; it does so between two other events."""

MANAGED_FILE: Final = "managed"
"""In a worker's runtime directory: the control plane starts that worker, and nobody else."""

_MANAGED_LOOK_SECONDS: Final = 0.02
"""Pause between two looks for a worker that the control plane is starting."""

_UCRED: Final = struct.Struct("iII")
"""`struct ucred` of unix(7): pid, uid, gid."""


class WorkerKilledError(WorkerStartError):
    """The worker was killed from outside while it started."""


def ensure_worker(settings: Settings, *, deadline: float | None = None) -> socket.socket:
    """A socket connected to this user's worker, which is started when none listens.

    `deadline` is in seconds from now (default `worker_start_seconds`). Raises WorkerStartError when
    the worker does not come up, WorkerTimeoutError when the deadline passes, WorkerError when the
    runtime directory or whoever listens there cannot be trusted.
    """
    limit = time.monotonic() + (settings.worker_start_seconds if deadline is None else deadline)
    if (settings.worker_directory / MANAGED_FILE).exists():
        return _await_managed(settings, limit)
    prepare_runtime_directory(settings.runtime_dir)
    if connection := connect(settings):
        return connection
    with _start_lock(settings.runtime_dir / "worker-start.lock", limit):
        for left in reversed(range(STARTS)):
            if connection := connect(settings):
                return connection
            try:
                start_worker(settings, limit)
            except WorkerKilledError:
                if not left:
                    raise
        if connection := connect(settings):
            return connection
    raise WorkerStartError(
        f"the worker said it was ready and does not listen at {settings.worker_socket}",
        cure=f"Look at {settings.worker_directory / 'worker.log'}.",
    )


def _await_managed(settings: Settings, limit: float) -> socket.socket:
    """A worker of the control plane's is started by it alone: waits until it listens."""
    while (connection := connect(settings)) is None:
        if time.monotonic() > limit:
            raise WorkerTimeoutError(
                f"the worker in {settings.worker_directory} belongs to the control plane and does "
                "not listen",
                cure="`fluidpy up` starts it again; `fluidpy status` says how it is.",
            )
        time.sleep(_MANAGED_LOOK_SECONDS)  # a socket that is not there cannot be waited for
    return connection


def connect(settings: Settings) -> socket.socket | None:
    """A socket connected to a running worker, or None when none listens.

    Raises WorkerError when another user listens there, WorkerTimeoutError when nobody accepts.
    """
    path = os.fspath(settings.worker_socket)
    if len(os.fsencode(path)) > _SUN_PATH_BYTES:
        raise WorkerError(
            f"{path} is longer than the {_SUN_PATH_BYTES} bytes a unix socket's path may have",
            cure="Set FLUIDPY_RUNTIME_DIR to a shorter directory.",
        )
    connection = protocol.new_socket()
    try:
        # On Linux this bounds how long a connect may wait for a full queue of others (unix(7)).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_CONNECT_SECONDS))
        connection.connect(path)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
        _check_peer(connection, path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BlockingIOError as error:
        connection.close()
        raise WorkerTimeoutError(
            f"the worker at {path} took no new client for {_CONNECT_SECONDS} s",
            cure=f"It hangs or is stopped: look at {settings.worker_directory / 'worker.log'}.",
        ) from error
    except OSError as error:
        connection.close()
        if isinstance(error, WorkerError):
            raise
        raise WorkerError(
            f"the worker's socket {path} cannot be used: {error}",
            cure="Look at its owner and mode, or set FLUIDPY_RUNTIME_DIR to another.",
        ) from error
    return connection


def _timeval(seconds: int) -> bytes:
    """`struct timeval` of socket(7)."""
    return struct.pack("ll", seconds, 0)


def check_cache_directory(greeting: protocol.Message, settings: Settings) -> None:
    """Raises WorkerError when the worker that answered `hello` caches elsewhere than is asked for.

    Settings with the default `cache_dir` ask for nothing: what runs is used as it is.
    """
    theirs = greeting.get("cache_dir")
    ours = os.fspath(settings.cache_dir)
    if not isinstance(theirs, str) or ours == os.fspath(default_cache_dir(os.environ)):
        return
    if os.path.realpath(theirs) != os.path.realpath(ours):
        raise WorkerError(
            f"the running worker (process {greeting.get('pid')}) caches in {theirs}, and this "
            f"program is to cache in {ours}",
            cure="Stop that worker (`fluidpy worker --stop`), set FLUIDPY_CACHE_DIR alike, or set "
            "another FLUIDPY_RUNTIME_DIR for a worker of its own.",
        )


def prepare_runtime_directory(directory: Path) -> None:
    """Makes the runtime directory (0700). Raises WorkerError when it is not this user's own."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise WorkerError(
            f"the runtime directory {directory} cannot be made: {error.strerror}",
            cure="Set FLUIDPY_RUNTIME_DIR to a directory you may write.",
        ) from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise WorkerError(
            f"the runtime directory {directory} belongs to, or can be written by, other users",
            cure="Set FLUIDPY_RUNTIME_DIR to a directory of your own with mode 0700.",
        )


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process and user that listen at the other end of a unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(raw)
    return pid, uid


def _check_peer(connection: socket.socket, path: str) -> None:
    _pid, uid = peer_of(connection)
    if uid != os.getuid():
        raise WorkerError(
            f"whoever listens at {path} is user {uid}, not {os.getuid()}",
            cure="Set FLUIDPY_RUNTIME_DIR to a directory of your own.",
        )


class _start_lock:  # noqa: N801 - used as a function, like contextlib's own
    """Holds an exclusive flock on a file, within the limit (a `time.monotonic` value)."""

    def __init__(self, path: Path, limit: float) -> None:
        self._path = path
        self._limit = limit
        self._fd = -1

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WorkerStartError(
                f"the lock {self._path} cannot be opened: {error.strerror}",
                cure="Make room for it, or set FLUIDPY_RUNTIME_DIR to another directory.",
            ) from error
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > self._limit:
                    os.close(self._fd)
                    raise WorkerTimeoutError(
                        f"another process is still starting the worker ({self._path} is locked)",
                        cure=f"Look at {self._path.parent / 'worker.log'}.",
                    ) from None
                time.sleep(0.01)  # flock has no time-out of its own

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def start_worker(
    settings: Settings, limit: float, variables: Mapping[str, str] | None = None
) -> None:
    """Starts a worker and waits until it listens, or another one does, until `limit` (monotonic).

    `variables` are for its environment, beside the settings. Raises WorkerStartError,
    WorkerTimeoutError and what the worker says.
    """
    log = settings.runtime_dir / "worker.log"
    late = WorkerTimeoutError(
        "the worker was started and was not ready in time",
        cure=f"Look at {log}; FLUIDPY_WORKER_START_SECONDS sets the limit.",
    )
    environment = worker_environment(settings) | dict(variables or {})
    try:
        process, said = start_until_ready("fluidpy.worker", log, environment, limit, late)
        if said.strip() != b"ready":
            raise _start_failure(said, process, log)
    except OSError as error:
        if isinstance(error, FluidpyError):  # what the worker said may be an OSError, too
            raise
        raise WorkerStartError(
            f"the worker could not be started: {error}",
            cure="Look at the limits of processes and open files of this user.",
        ) from error


def worker_environment(settings: Settings) -> dict[str, str]:
    """Our environment, with these settings as `FLUIDPY_<NAME>` so that the worker has the same.

    The package of this process is found by the worker too, also when it is not installed.
    """
    environment = dict(os.environ)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, int | float | str | Path):
            environment[f"FLUIDPY_{field.name.upper()}"] = str(value)
    package_root = str(Path(__file__).resolve().parents[2])
    known = environment.get("PYTHONPATH", "")
    if package_root not in known.split(os.pathsep):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (known, package_root)))
    return environment


def _start_failure(said: bytes, process: Detached, log: Path) -> Exception:
    if said.startswith(b"{"):
        return from_wire(protocol.decode(said))
    code = process.end_within(1)
    if code is None:
        return WorkerStartError(
            f"the worker did not start, and does not end: process {process.pid} waits in the "
            "kernel, as for a disk or a network file system that does not answer",
            cure=f"Look whether the cache directories can be read, and at {log}.",
        )
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        tail = stream.read().decode("utf-8", "replace").strip()
    if not tail and code != -signal.SIGKILL and _is_full(log.parent):
        return WorkerStartError(
            f"the worker cannot start: the disk of the runtime directory {log.parent} is full",
            cure="Make room there, or set FLUIDPY_RUNTIME_DIR to another directory.",
        )
    last = tail.splitlines()[-1] if tail else "it wrote nothing"
    cure = f"Look at {log}."
    if "ModuleNotFoundError" in last:
        cure = "Install the worker's libraries: pip install 'fluidpy[worker]'."
    kind = WorkerKilledError if code == -signal.SIGKILL else WorkerStartError
    return kind(f"the worker ended with status {code} at once: {last}", cure=cure)


def _is_full(directory: Path) -> bool:
    status = os.statvfs(directory)
    return status.f_blocks > 0 and status.f_bavail == 0
