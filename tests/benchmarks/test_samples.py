"""What a sample of a benchmark consists of: enough time, and all processes of a mount."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from benchmarks.pairs import LEAST_SECONDS, speed_of
from benchmarks.single.page_cache import cached_bytes, forget
from benchmarks.single.processes import (
    MOUNT_ROLES,
    MemorySampler,
    find_processes,
    memory_by_role,
    missing_roles,
    role,
)


@pytest.mark.parametrize(("seconds", "times"), [(0.03, 34), (0.5, 2), (4.0, 1)])
def test_short_work_is_done_again_until_a_second_has_passed(seconds: float, times: int) -> None:
    now, done = 0.0, 0

    def work() -> float:
        nonlocal now, done
        now += seconds
        done += 1
        return 7.0

    assert speed_of(work, clock=lambda: now) == pytest.approx(7.0 / seconds)
    assert done == times
    assert now >= LEAST_SECONDS


def test_tiny_runs_do_their_work_once() -> None:
    clock = count()
    assert speed_of(lambda: 3.0, 0.0, lambda: next(clock)) == 3.0


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["python3", "-m", "fluidpy.worker", "--fd", "3", ""], "worker"),
        (["python3", "-m", "fluidpy.fuse.spare", ""], "spare"),
        (["python3", "-m", "fluidpy", "load", ""], "command"),
        (["python3", "-m"], "command"),
        (["sleep", "1", ""], "command"),
    ],
)
def test_a_process_is_known_by_the_module_it_runs(command: list[str], what: str) -> None:
    assert role(command) == what


@pytest.fixture
def other(tmp_path: Path) -> Iterator[int]:
    """A process of the machine whose sockets lie in `tmp_path`, and its pid."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "FLUIDPY_RUNTIME_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.terminate()


def test_processes_are_found_by_where_they_run(other: int, tmp_path: Path) -> None:
    assert list(find_processes(tmp_path)) == [("command", other)]
    assert list(find_processes(tmp_path / "elsewhere")) == []


def test_memory_is_that_of_all_processes_there_are() -> None:
    sizes = {1: 10, 2: 20, 3: 30}

    def bytes_of(pid: int) -> int:
        if pid not in sizes:  # it has ended meanwhile
            raise ProcessLookupError
        return sizes[pid]

    found = [("server", 1), ("spare", 2), ("spare", 3), ("command", 4)]
    assert memory_by_role(found, bytes_of) == {"server": 10, "spare": 50}


def test_a_mount_of_which_a_process_is_missing_is_not_measured() -> None:
    sampler = MemorySampler(lambda: [(name, os.getpid()) for name in MOUNT_ROLES - {"spare"}])
    sampler.start()
    with pytest.raises(RuntimeError, match="no spare in 2"):
        sampler.finish()


def test_a_sample_that_fails_fails_the_measurement() -> None:
    def broken() -> Iterator[tuple[str, int]]:
        raise ValueError("no /proc")

    sampler = MemorySampler(broken)
    sampler.start()
    with pytest.raises(RuntimeError, match="no /proc"):
        sampler.finish()


def test_a_whole_mount_is_measured() -> None:
    sampler = MemorySampler(lambda: [(name, os.getpid()) for name in MOUNT_ROLES])
    sampler.start()
    sampler.finish()
    assert sampler.by_role.keys() == MOUNT_ROLES
    assert max(sampler.totals) >= 5 * min(sampler.by_role.values()) > 0
    assert missing_roles(dict.fromkeys(MOUNT_ROLES, 1)) == []


def test_pages_of_a_file_are_counted_and_dropped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(300_000))
    assert cached_bytes(path) == 74 * 4096
    forget(path)
    assert cached_bytes(path) in (0, 74 * 4096)  # tmpfs has nowhere to put them
