"""Whether a server looks for the next request for a moment, or sleeps."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fluidpy.fuse.busy_wait import ENOUGH, LOOK_SECONDS, BusyWait, usable_cores
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


def test_a_quota_of_the_control_group_counts_as_cores(tmp_path: Path) -> None:
    here = next(
        (line for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"),
        None,
    )
    if here is None:
        pytest.skip("no control groups of the second version here")
    place = tmp_path / here[3:].lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    (place / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 0.5
    (place / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path / "absent") == len(os.sched_getaffinity(0))


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
