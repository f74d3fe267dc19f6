"""A move begins no more bytes a second than it may, and is not held up longer than that takes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.worker.move_pace import MovePace

RATE = 1000
some_lengths = st.lists(st.tuples(st.integers(1, 5000), st.floats(0.0, 3.0)), max_size=30)


@given(some_lengths)
def test_bytes_begin_at_the_rate_and_none_is_held_up_for_others_that_come_later(
    moves: list[tuple[int, float]],
) -> None:
    now, before, idle_since = 100.0, 0, 100.0
    pace = MovePace(RATE, lambda: now)
    for length, pause in moves:
        now += pause
        if now >= idle_since + before / RATE:
            idle_since, before = now, 0
        due = idle_since + before / RATE
        assert abs(pace.delay(length) - (due - now)) < 1e-6
        before += length


@given(st.integers(1, 1 << 40))
def test_without_a_bound_nothing_waits(length: int) -> None:
    pace = MovePace(0, lambda: 0.0)
    assert (pace.delay(length), pace.delay(length)) == (0.0, 0.0)


async def test_moves_that_were_given_up_hold_up_nobody() -> None:
    pace = MovePace(RATE, lambda: 100.0)
    pace.delay(RATE)
    waiting = [asyncio.create_task(pace.turn(60 * RATE)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert abs(pace.delay(1) - 1.0) < 1e-6
