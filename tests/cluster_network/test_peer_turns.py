"""Turns of answers to peers: never too many bytes at once, first come first served, none lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidpy.errors import PeerBusyError
from fluidpy.worker.peer_turns import Turns


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 3), st.booleans()), max_size=30),
    st.integers(0, 30),
)
def test_bytes_stay_bounded_and_every_turn_ends(
    wishes: list[tuple[int, int, bool]], waiting: int
) -> None:
    async def drive() -> None:
        turns = Turns(100, waiting)
        held: list[int] = []

        async def take(length: int, pauses: int) -> None:
            try:
                async with turns.turn(length, 10):
                    held.append(length)
                    # Those who were let in and have not woken yet count as well.
                    assert sum(held) <= turns.bytes_under_way
                    assert len(held) <= turns.under_way
                    assert turns.bytes_under_way <= 100 or max(held) > 100
                    try:
                        for _ in range(pauses):
                            await asyncio.sleep(0)
                    finally:
                        held.remove(length)
            except PeerBusyError:
                assert turns.under_way

        tasks = [asyncio.create_task(take(length, pauses)) for length, pauses, _ in wishes]
        await asyncio.sleep(0)
        for task, (_, _, cancelled) in zip(tasks, wishes, strict=True):
            if cancelled:
                task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        # What was cancelled in the middle left nothing behind.
        assert turns.bytes_under_way == turns.under_way == 0
        async with turns.turn(100, 10):
            assert turns.under_way == 1

    asyncio.run(drive())


async def test_who_comes_first_is_served_first() -> None:
    turns = Turns(100)
    order: list[int] = []

    async def take(number: int, length: int) -> None:
        async with turns.turn(length, 10):
            order.append(number)
            await asyncio.sleep(0)

    async with turns.turn(60, 10):
        tasks = [asyncio.create_task(take(n, length)) for n, length in enumerate((90, 10, 50))]
        await asyncio.sleep(0)
        assert order == []  # the small one does not overtake the large one for ever
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


async def test_who_waits_too_long_is_sent_away() -> None:
    turns = Turns(100)
    async with turns.turn(100, 10):
        with pytest.raises(PeerBusyError, match="as many requests"):
            async with turns.turn(1, 0.05):
                raise AssertionError("there was no room")
    async with turns.turn(100, 10):
        assert turns.under_way == 1


async def test_an_answer_larger_than_all_gets_its_turn_alone() -> None:
    turns = Turns(100)
    async with turns.turn(1000, 10):
        assert turns.bytes_under_way == 1000
