"""A mount that never outlives its test: whatever happens, it is taken down.

The environment may say in what surroundings these tests run, and `tests/chaos/test_surroundings.py`
does: `FUSE_TESTS_READ_MODE` is what `--read-mode` takes, and `FUSE_TESTS_DIRECTORY=overlayfs` has
cache and all else of a test on an overlay (root only).
"""

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

import pytest

from fluidpy.client.connection import WorkerConnection
from fluidpy.fuse.mount_record import MountRecord
from fluidpy.fuse.mount_table import read_mounts
from fluidpy.fuse.mounting import list_mounts, mount_dataset, unmount
from fluidpy.settings import Settings
from tests.fuse.reading_bed import Bed
from tests.fuse.tree_worker import Link, Node, TreeWorker, definition

READ_MODE = os.environ.get("FUSE_TESTS_READ_MODE", "auto")
ON_OVERLAY = os.environ.get("FUSE_TESTS_DIRECTORY") == "overlayfs"

Mounted = Callable[..., MountRecord]


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory with a path short enough for a unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="fluidpy-fuse-"))
    if ON_OVERLAY:
        with overlay(directory):
            yield directory
        directory.rmdir()
        return
    yield directory
    limit = time.monotonic() + 60
    while True:
        try:
            shutil.rmtree(directory)
        except OSError:  # a server that was forked just before the end looks at its catalog once
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def overlay(directory: Path) -> Iterator[None]:
    """An overlay of two folders of a tmpfs at a directory, as a container's root file system is."""
    with tempfile.TemporaryDirectory(prefix="fluidpy-overlay-") as base:
        subprocess.run(["mount", "-t", "tmpfs", "none", base], check=True)
        for name in ("lower", "upper", "work"):
            Path(base, name).mkdir()
        options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        command = ["mount", "-t", "overlay", "-o", options, "none", os.fspath(directory)]
        subprocess.run(command, check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", directory], check=True)
            subprocess.run(["umount", "-l", base], check=True)


@pytest.fixture
def fuse_settings(short_directory: Path) -> Settings:
    return Settings(
        cache_dir=short_directory / "cache",
        runtime_dir=short_directory / "run",
        source_deadline_seconds=20,
    )


@pytest.fixture
def tree() -> dict[bytes, Node]:
    return {
        b"empty": b"",
        b"small.txt": b"hello\n",
        b"large.bin": os.urandom(3 * 1024 * 1024 + 17),
        b"folder": None,
        b"folder/inner.txt": b"inner",
        b"folder/deeper": None,
        b"folder/deeper/x": b"x" * 70_000,
        b"no\xff utf-8 \n\\ name": b"odd",
        "日本語".encode(): b"unicode",
        b"n" * 255: b"long name",
        b"link": Link(b"folder/inner.txt"),
        b"absolute": Link(b"/etc/hostname"),
        b"dangling": Link(b"nowhere"),
    }


@pytest.fixture
def worker(
    fuse_settings: Settings, short_directory: Path, tree: dict[bytes, Node]
) -> Iterator[TreeWorker]:
    if READ_MODE == "passthrough":  # which a mount tries on a file in its cache
        (fuse_settings.cache_dir / "store").mkdir(parents=True)
    worker = TreeWorker(fuse_settings, short_directory, tree)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def mount_point(short_directory: Path) -> Path:
    directory = short_directory / "mnt"
    directory.mkdir()
    return directory


def clear(directory: Path, records: list[MountRecord]) -> None:
    """Ends what a test left, by force."""
    for point in read_mounts():
        if point.directory == directory:
            subprocess.run(["umount", "-l", os.fspath(directory)], check=False)
    for record in records:
        pids = [record.holder_pid, *children_of(record.holder_pid)]
        ends = [end for pid in pids if (end := process_end(pid)) is not None]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(record.holder_pid, 0)
        for end in ends:
            select.select([end], [], [], 60)
            os.close(end)


def children_of(pid: int) -> list[int]:
    """The processes that a holder has: its server, a spare, their template."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def process_end(pid: int) -> int | None:
    """An fd that can be read when the process has ended."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


@pytest.fixture
def mounted(worker: TreeWorker, fuse_settings: Settings, mount_point: Path) -> Iterator[Mounted]:
    """Mounts the worker's tree at `mount_point`; keywords change the definition."""
    records: list[MountRecord] = []

    def mount(*, read_mode: str = READ_MODE, **changes: Any) -> MountRecord:
        record = mount_dataset(
            definition(**changes),
            mount_point,
            fuse_settings,
            foreground=False,
            file=None,
            deadline=60,
            read_mode=read_mode,
        )
        records.append(record)
        return record

    yield mount
    clear(mount_point, records)


def worker_pid(settings: Settings) -> int:
    connection = WorkerConnection(settings)
    ok, _ = connection.call("hello", deadline=10, version=1)
    connection.close()
    return int(ok["pid"])


@pytest.fixture
def real_worker(fuse_settings: Settings) -> Iterator[None]:
    """Ends the worker that the mount started."""
    yield
    pid = worker_pid(fuse_settings)
    end = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGTERM)
        assert select.select([end], [], [], 60)[0], "the worker does not end"
    finally:
        os.close(end)
    with suppress(ChildProcessError):  # ours only if this process had to start it
        os.waitpid(pid, os.WNOHANG)


@pytest.fixture
def bed(
    short_directory: Path, fuse_settings: Settings, mount_point: Path, real_worker: None
) -> Iterator[Bed]:
    """What is read is mounted by the test, in the mode that it asks for."""
    bed = Bed(short_directory, fuse_settings, mount_point)
    yield bed
    if list_mounts(fuse_settings):
        unmount(mount_point, fuse_settings, lazy=True)
    clear(mount_point, bed.records)
