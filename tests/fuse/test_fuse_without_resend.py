"""Kernels that do not send requests again: what was under way ends with EIO, the rest goes on."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.fuse import unanswered
from fluidpy.fuse.unanswered import SWITCH, TABLE_BYTES, UnansweredTable, kernel_resends
from fluidpy.settings import Settings
from tests.fuse.conftest import Mounted
from tests.fuse.test_fuse_restart import kill_server
from tests.fuse.test_fuse_serving import seen, stall_this_one, until
from tests.fuse.tree_worker import TreeWorker


@pytest.mark.parametrize(
    ("release", "resends"),
    [("6.9.0", True), ("6.18.44-x", True), ("7.0", True), ("6.8.12", False), ("5.4", False)],
)
def test_kernels_are_known_by_their_version(release: str, resends: bool) -> None:
    assert kernel_resends({}, release) is resends
    assert not kernel_resends({SWITCH: "0"}, release)


@pytest.fixture
def table() -> Iterator[int]:
    fd = os.memfd_create("table", os.MFD_CLOEXEC)
    os.truncate(fd, TABLE_BYTES)
    yield fd
    os.close(fd)


steps = st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=60)


@given(steps)
def test_the_next_server_finds_all_that_is_unanswered(steps: list[tuple[int, bool]]) -> None:
    fd = os.memfd_create("table", os.MFD_CLOEXEC)
    try:
        os.truncate(fd, TABLE_BYTES)
        before = UnansweredTable(fd)
        last = 0
        waiting: set[int] = set()
        for number, answered in steps:
            unique = 2 * number
            if unique not in waiting:
                before.note(unique)
                waiting.add(unique)
            if answered:
                before.answered(unique)
                waiting.discard(unique)
        before.close()
        after = UnansweredTable(fd)
        left = after.take_left()
        assert waiting <= set(left)
        assert {u for u in left if u <= last and u not in waiting} == set()
        after.close()
    finally:
        os.close(fd)


def test_a_full_table_costs_nobody_else(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unanswered, "TABLE_BYTES", 4096)
    noted = UnansweredTable(table)
    for number in range(1, 600):
        noted.note(2 * number)
    noted.answered(2)
    noted.note(2000)
    assert {4, 2 * 511, 2000} <= set(noted.take_left())
    noted.close()


def read_directly(path: Path) -> int:
    """One READ, and no read-ahead, which the kernel tries again when it fails."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, 1024 * 1024) as buffer:
        try:
            return os.preadv(fd, [buffer], 0)
        finally:
            os.close(fd)


def test_requests_in_flight_fail_and_later_ones_succeed(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SWITCH, "0")
    worker.complete = False
    mounted()
    os.listdir(mount_point / "folder")
    worker.stall = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        read = pool.submit(read_directly, mount_point / "large.bin")
        stall = stall_this_one(worker)
        kill_server(fuse_settings)
        try:
            with pytest.raises(OSError) as caught:
                read.result(timeout=60)
        finally:
            stall.set()
    assert caught.value.errno == errno.EIO
    assert seen(mount_point) == worker.tree
    for _ in range(5):
        kill_server(fuse_settings)
        assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]


def test_nobody_hangs_however_often_the_server_is_killed(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SWITCH, "0")
    mounted(metadata_ttl_seconds=0.01)
    ended = threading.Event()
    errors: list[int | None] = []
    calls = [0]

    def read() -> None:
        while not ended.is_set():
            calls[0] += 1
            try:
                os.stat(mount_point / f"none-{calls[0]}")
            except FileNotFoundError:
                continue
            except OSError as error:
                errors.append(error.errno)

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for _ in range(10):
            kill_server(fuse_settings)
            count = calls[0]
            assert until(lambda count=count: calls[0] > count + 10)  # type: ignore[misc]
        ended.set()
        for reader in readers:
            reader.result(timeout=60)
    assert set(errors) <= {errno.EIO}
    assert len(errors) <= 10 * 3


def test_the_kernel_was_told(
    mounted: Mounted, fuse_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP keeps a server from answering, SIGKILL ends it all the same."""
    monkeypatch.setenv(SWITCH, "0")
    record = mounted()
    os.kill(record.server_pid, signal.SIGSTOP)
    assert kill_server(fuse_settings).restarts == 1
