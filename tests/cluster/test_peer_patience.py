"""Members left out after failures, and second requests for slow ones: by a clock of the test's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cluster.hedging import BUDGET_SHARE, SAVED, Hedging
from fluidpy.cluster.peer_health import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PeerHealth,
)

KIB = 1024


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_member_that_failed_is_asked_once_after_a_pause() -> None:
    clock = Clock()
    health = PeerHealth(clock)
    health.failed("b")
    assert health.may_ask("a")
    assert not health.may_ask("b")
    clock.now += FIRST_PAUSE_SECONDS
    assert [health.may_ask("b") for _ in range(3)] == [True, False, False]
    assert not health.is_well("b")
    health.succeeded("b")
    assert health.may_ask("b")
    assert health.is_well("b")


def test_each_probe_that_fails_makes_the_pause_longer_up_to_a_bound() -> None:
    clock = Clock()
    health = PeerHealth(clock)
    health.failed("b")
    pauses = []
    for _ in range(8):
        began = clock.now
        while not health.may_ask("b"):
            clock.now += 0.125
        pauses.append(clock.now - began)
        health.failed("b")
    assert pauses == [0.5, 1, 2, 4, 8, *[LONGEST_PAUSE_SECONDS] * 3]


def test_requests_that_fail_together_count_once() -> None:
    clock = Clock()
    health = PeerHealth(clock)
    for _ in range(32):
        health.failed("b")
    clock.now += FIRST_PAUSE_SECONDS
    assert health.may_ask("b")


def test_a_probe_that_never_tells_does_not_leave_a_member_out_for_ever() -> None:
    clock = Clock()
    health = PeerHealth(clock)
    health.failed("b")
    clock.now += FIRST_PAUSE_SECONDS
    assert health.may_ask("b")
    clock.now += FIRST_PAUSE_SECONDS
    assert health.may_ask("b")


@given(st.lists(st.floats(0.0, 5.0), min_size=16, max_size=128))
def test_at_most_one_request_in_twenty_was_slower_than_the_delay(seconds: list[float]) -> None:
    hedging = Hedging()
    for each in seconds:
        hedging.observe(100 * KIB, each)
    slower = sum(each > hedging.delay(100 * KIB) for each in seconds)
    assert slower <= len(seconds) * 0.05


def test_sizes_are_learnt_apart() -> None:
    hedging = Hedging()
    for _ in range(20):
        hedging.observe(64 * KIB, 0.001)
        hedging.observe(8192 * KIB, 2.0)
    assert hedging.delay(64 * KIB) < 0.05
    assert hedging.delay(8192 * KIB) == 2.0
    assert 0.1 < hedging.delay(1024 * KIB) < 0.2


@given(st.integers(0, 2000))
def test_second_requests_are_a_twentieth_of_all(requests: int) -> None:
    hedging = Hedging()
    hedged = 0
    for _ in range(requests):
        hedging.observe(KIB, 0.01)
        hedged += hedging.may_hedge()
    assert hedged <= SAVED + requests * BUDGET_SHARE
