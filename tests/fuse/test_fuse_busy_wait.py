"""Whether a server looks for the next request for a moment, or sleeps."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import pytest

from fluidpy.fuse.busy_wait import ENOUGH, LOOK_SECONDS, BusyWait, quota, usable_cores
from fluidpy.fuse.event_loop import EventLoop

SOON = LOOK_SECONDS / 2
LATE = LOOK_SECONDS * 2


class Stream:
    """Requests at gaps that a test says."""

    def __init__(self, cores: float = 2) -> None:
        self.now = 0.0
        self.wait = BusyWait(lambda: self.now, cores)

    def request(self, gap: float) -> bool:
        """The next request comes after a gap: whether the one after it is to be looked for."""
        self.now += gap
        self.wait.asked()
        return self.wait.answered()


def test_a_reader_that_asks_at_once_again_and_again_is_soon_looked_for() -> None:
    stream = Stream()
    looks = [stream.request(SOON) for _ in range(3 * ENOUGH)]
    assert not any(looks[:ENOUGH])
    assert all(looks[ENOUGH:])


@pytest.mark.parametrize("together", [1, 2, ENOUGH])
def test_whoever_computes_between_files_is_never_looked_for(together: int) -> None:
    stream = Stream()
    for _ in range(20):
        assert not stream.request(LATE)
        assert not any(stream.request(SOON) for _ in range(together - 1))


def test_a_reader_that_ends_is_looked_for_once() -> None:
    stream = Stream()
    assert any(stream.request(SOON) for _ in range(2 * ENOUGH))
    assert not any(stream.request(LATE) for _ in range(10))


@pytest.mark.parametrize("cores", [0.5, 1, 1.9])
def test_with_less_than_two_cores_nobody_is_looked_for(cores: float) -> None:
    stream = Stream(cores)
    assert not any(stream.request(SOON) for _ in range(10 * ENOUGH))


def written(top: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)
    return top


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "90000 100000\n", "a/cpu.max": "300000 100000\n"}, 0.9),
        ("0::/\n", {"cpu.max": "25000 50000\n"}, 0.5),
        ("0::/of/the/host\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/../other\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/a\n", {"cpu.max": "broken\n", "a/cpu.max": "1 0\n"}, math.inf),
        (
            "11:memory:/m\n4:cpu,cpuacct:/a/b\n0::/u\n",
            {
                "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/a/cpu.cfs_quota_us": "75000\n",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            0.75,
        ),
        (
            "4:cpuacct,cpu:/docker/1234\n",
            {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2.0,
        ),
        ("3:cpuset:/a\n", {"cpuset/a/cpu.max": "1 100000\n"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_least_quota_of_a_control_group_and_those_above_counts(
    tmp_path: Path, membership: str, files: dict[str, str], cores: float
) -> None:
    assert quota(membership, written(tmp_path, files)) == cores


def test_cores_are_those_that_affinity_and_quota_allow(tmp_path: Path) -> None:
    groups = written(tmp_path, {"membership": "0::/a\n", "a/cpu.max": "50000 100000\n"})
    mine = len(os.sched_getaffinity(0))
    assert usable_cores(groups, groups / "membership") == 0.5
    assert usable_cores(groups, groups / "absent") == mine
    assert usable_cores(tmp_path / "absent", groups / "membership") == mine
    assert 0 < usable_cores() <= mine


def test_whoever_looks_for_one_serves_all_meanwhile() -> None:
    loop = EventLoop()
    seen: list[str] = []

    def end() -> None:
        seen.append("timer")
        loop.stop()

    def from_thread() -> None:
        seen.append("thread")
        loop.call_soon(lambda: seen.append("soon"))
        loop.call_later(0.0, end)

    loop.look_for(3600)
    thread = threading.Thread(target=lambda: loop.call_from_thread(from_thread))
    thread.start()
    loop.run()
    thread.join()
    loop.close()
    assert seen == ["thread", "soon", "timer"]


def test_when_nothing_came_the_loop_sleeps_again() -> None:
    times = iter([0.0, 0.0, 2.0])
    loop = EventLoop(lambda: next(times, 3.0))
    loop.look_for(1.0)
    assert loop.patience() == 0.0
    assert loop.patience() is None
    loop.close()
