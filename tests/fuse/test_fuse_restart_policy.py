"""What is done when a server has ended, for every case."""

from __future__ import annotations

import signal

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.fuse.restart_policy import (
    ABSENCE_SECONDS,
    FAILURE_LIMIT,
    FAILURE_WINDOW_SECONDS,
    FROM_OUTSIDE,
    Ending,
    NextStep,
    Situation,
    after_server,
    pause_after,
    recent,
)

KILLED = Ending(-signal.SIGKILL, served=True)
CRASHED = Ending(-signal.SIGSEGV, served=True)


def situation(
    failures: int = 0, *, connected: bool = True, mounted: bool = True, ending: bool = False
) -> Situation:
    return Situation(connected, mounted, ending, [100.0] * failures, now=100.0)


endings = st.builds(Ending, st.integers(-64, 255), served=st.booleans())


@given(endings, st.integers(0, 100))
def test_a_mount_that_is_gone_is_finished(ending: Ending, failures: int) -> None:
    gone = situation(failures, connected=False, mounted=False)
    assert after_server(gone, ending).step is NextStep.FINISH


@given(endings, st.integers(0, 100))
def test_an_aborted_connection_is_not_served_again(ending: Ending, failures: int) -> None:
    decision = after_server(situation(failures, connected=False), ending)
    assert decision.step is NextStep.TAKE_DOWN
    assert "aborted" in decision.reason


@given(endings, st.integers(0, 100))
def test_who_was_told_to_end_starts_nothing(ending: Ending, failures: int) -> None:
    assert after_server(situation(failures, ending=True), ending).step is NextStep.TAKE_DOWN


def test_servers_killed_from_outside_are_followed_at_once_without_end() -> None:
    for number in FROM_OUTSIDE:
        ending = Ending(-number, served=True)
        assert not ending.is_failure
        decision = after_server(situation(FAILURE_LIMIT - 1), ending)
        assert (decision.step, decision.pause) == (NextStep.RESTART, 0.0)


@given(endings)
def test_whatever_else_ends_a_server_counts(ending: Ending) -> None:
    assert ending.is_failure == (not ending.served or -ending.status not in FROM_OUTSIDE)


@given(st.integers(0, FAILURE_LIMIT - 1))
def test_failures_are_followed_after_growing_pauses(failures: int) -> None:
    decision = after_server(situation(failures), CRASHED)
    assert decision.step is NextStep.RESTART
    assert decision.pause == pause_after(failures)
    assert pause_after(failures + 1) >= pause_after(failures)


def test_the_first_failure_costs_no_pause() -> None:
    assert after_server(situation(1), CRASHED).pause == 0.0


def test_too_many_failures_end_the_mount_and_are_named() -> None:
    decision = after_server(situation(FAILURE_LIMIT), Ending(3, served=False))
    assert decision.step is NextStep.TAKE_DOWN
    assert decision.reason == (
        "10 servers failed within 60 s; the last one exited with status 3 before it served"
    )


def test_the_limit_is_reached_before_a_mount_is_without_server_for_too_long() -> None:
    assert sum(pause_after(n) for n in range(1, FAILURE_LIMIT)) < ABSENCE_SECONDS


@given(st.lists(st.floats(0, 1000), max_size=20), st.floats(0, 1000))
def test_old_failures_are_forgotten(failures: list[float], now: float) -> None:
    assert all(now - at < FAILURE_WINDOW_SECONDS for at in recent(failures, now))
    decision = after_server(Situation(True, True, False, failures, now), CRASHED)
    many = len(recent(failures, now)) >= FAILURE_LIMIT
    assert decision.step is (NextStep.TAKE_DOWN if many else NextStep.RESTART)


def test_endings_are_told_in_words() -> None:
    assert str(KILLED) == "was ended by SIGKILL"
    assert str(Ending(1, served=True)) == "exited with status 1"
    assert str(Ending(-64, served=False)) == "was ended by SIGRTMAX before it served"
    assert str(Ending(-99, served=True)) == "was ended by signal 99"
