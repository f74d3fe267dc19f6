"""Whether a server looks for the next request for a moment, or sleeps."""

from __future__ import annotations

import pytest

from fluidpy.fuse.busy_wait import ENOUGH, LOOK_SECONDS, BusyWait

SOON = LOOK_SECONDS / 2
LATE = LOOK_SECONDS * 2


class Stream:
    """Requests at gaps that a test says, on a clock that moves only by them and by looking."""

    def __init__(self, cores: int = 2) -> None:
        self.now = 0.0
        self.looks = 0
        self.wait = BusyWait(lambda: self.now, cores)

    def request(self, gap: float) -> bool:
        """The next request comes after a gap: whether it was seen by looking."""
        comes_at = self.now + gap

        def has_request() -> bool:
            self.looks += 1
            self.now += LOOK_SECONDS / 10
            return self.now >= comes_at

        if self.wait.comes_soon(has_request):
            return True
        self.now = max(self.now, comes_at)
        self.wait.woken()
        return False


def test_a_reader_that_asks_at_once_again_and_again_is_soon_looked_for() -> None:
    stream = Stream()
    seen = [stream.request(SOON) for _ in range(3 * ENOUGH)]
    assert not any(seen[:ENOUGH])
    assert all(seen[ENOUGH:])


@pytest.mark.parametrize("together", [1, 2, ENOUGH - 1])
def test_whoever_computes_between_files_is_never_looked_for(together: int) -> None:
    stream = Stream()
    for _ in range(20):
        stream.request(LATE)
        for _ in range(together - 1):
            stream.request(SOON)
    assert not stream.looks


def test_a_reader_that_ends_is_looked_for_once() -> None:
    stream = Stream()
    for _ in range(2 * ENOUGH):
        stream.request(SOON)
    assert not stream.request(1.0)
    looks = stream.looks
    for _ in range(10):
        assert not stream.request(LATE)
    assert stream.looks == looks


def test_with_one_core_nobody_is_looked_for() -> None:
    stream = Stream(cores=1)
    for _ in range(10 * ENOUGH):
        assert not stream.request(SOON)
    assert not stream.looks
