"""One user's machine for a test: cache, sockets, worker and mount of its own, all ended with it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fluidpy.client.connection import WorkerConnection
from fluidpy.client.session import DatasetSession
from fluidpy.fuse.mount_record import MountRecord
from fluidpy.fuse.mount_table import mounted_at, read_mounts
from fluidpy.fuse.mounting import mount_dataset, unmount
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

KIB = 1024
BLOCK_BYTES = 64 * KIB


def until(ready: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether something became true in time; for what gives no event to wait for."""
    limit = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def await_end(pid: int, seconds: float = 60.0) -> None:
    """Waits until a process has ended, and reaps it if it is a child of this one."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            ended, _, _ = select.select([handle], [], [], seconds)
        finally:
            os.close(handle)
        assert ended, f"process {pid} did not end within {seconds} s"
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class Place:
    """Everything below one short directory; `processes` are those that run with its settings."""

    def __init__(self, base: Path, **values: Any) -> None:
        self.base = base
        self.mount_point = base / "mnt"
        self.mount_point.mkdir()
        values = {"block_bytes": BLOCK_BYTES, "source_deadline_seconds": 20.0, **values}
        self.settings = Settings(cache_dir=base / "cache", runtime_dir=base / "run", **values)
        self.record: MountRecord | None = None
        self._connections: list[WorkerConnection] = []

    def session(self, definition: DatasetDefinition) -> DatasetSession:
        session = DatasetSession(definition, self.settings)
        session.connection = WorkerConnection(self.settings)
        self._connections.append(session.connection)
        return session

    def mount(self, definition: DatasetDefinition, **options: Any) -> MountRecord:
        """Mounts; `options` are further ones of `mount_dataset`."""
        options = {"foreground": False, "file": None, "deadline": 60, **options}
        self.record = mount_dataset(definition, self.mount_point, self.settings, **options)
        return self.record

    def unmount(self) -> None:
        unmount(self.mount_point, self.settings)
        self.record = None

    @property
    def mounted(self) -> bool:
        return mounted_at(self.mount_point) is not None

    def processes(self, module: str = "") -> dict[int, str]:
        """Command lines by pid of the running processes of this place, of one module or all."""
        return {
            pid: command
            for pid, command in _processes_in(self.base)
            if f"fluidpy{module}" in command
        }

    def children_of(self, pid: int) -> list[int]:
        """Running descendants of a process."""
        parents = {}
        for name in os.listdir("/proc"):
            with suppress(OSError):
                if name.isdigit():
                    state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    parents[int(name)] = int(state[1]) if state[0] != "Z" else 0
        found, todo = [], [pid]
        while todo:
            parent = todo.pop()
            children = [child for child, of in parents.items() if of == parent]
            found += children
            todo += children
        return found

    def end_worker(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends the worker, if one runs, and waits for its end."""
        for pid in self.processes(".worker"):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            await_end(pid)

    def worker_log(self) -> str:
        return (self.settings.runtime_dir / "worker.log").read_text(errors="replace")

    def close(self) -> None:
        """Ends all by force where need be; what should have ended by itself is asserted before."""
        for connection in self._connections:
            connection.close()
        if self.mounted:
            with suppress(OSError):
                self.unmount()
        self.end_worker()
        for point in read_mounts():
            if point.directory == self.mount_point:
                subprocess.run(["umount", "-l", os.fspath(self.mount_point)], check=False)
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await_end(pid)


def _processes_in(base: Path) -> Iterator[tuple[int, str]]:
    wanted = f"FLUIDPY_RUNTIME_DIR={base}/run".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                if command:  # a zombie has none
                    yield int(name), command.replace(b"\0", b" ").decode(errors="replace")


@contextmanager
def new_place(**values: Any) -> Iterator[Place]:
    """A place in a directory whose path is short enough for a unix socket."""
    base = Path(tempfile.mkdtemp(prefix="fluidpy-"))
    place = Place(base, **values)
    try:
        yield place
    finally:
        place.close()
        shutil.rmtree(base)


def disk_bytes(directory: Path) -> int:
    """Bytes that the object files of a tier take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.glob("objects/*/*"))
