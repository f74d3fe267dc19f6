"""Read-ahead: what is planned for readers of every habit."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.worker.read_ahead import (
    ALIGNED_BYTES,
    INITIAL_WINDOW_BYTES,
    MIB,
    NOTHING,
    PROMISE_SHARE,
    WHOLE_FILE_BYTES,
    Plan,
    ReadAhead,
)

GIB = 1024 * MIB
WINDOW = 64 * MIB
READ = 128 * 1024


def plans_of(ahead: ReadAhead, reads: list[tuple[int, int]], allowance: int = GIB) -> list[Plan]:
    plans = [ahead.read(start, end, allowance) for start, end in reads]
    return [plan for plan in plans if plan.size]


def sequential(start: int, end: int, step: int = READ) -> list[tuple[int, int]]:
    return [(at, min(at + step, end)) for at in range(start, end, step)]


def test_a_sequential_reader_gets_a_window_that_grows_up_to_the_largest() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    reached = 0
    growth = []
    for start, end in sequential(0, 256 * MIB):
        plan = ahead.read(start, end, GIB)
        if plan.size:
            assert plan.start == max(reached, end) or plan.start == reached
            reached = plan.end
            growth.append(reached - end)
    assert growth[:2] == [2 * MIB, 8 * MIB]
    assert WINDOW - ALIGNED_BYTES <= max(growth) <= WINDOW
    assert min(growth[8:]) >= WINDOW * 3 // 4


def test_the_plans_of_a_long_run_are_whole_parts_at_their_places() -> None:
    plans = plans_of(ReadAhead(GIB, WINDOW), sequential(0, GIB, MIB))
    assert all(plan.start % ALIGNED_BYTES == 0 for plan in plans[3:])
    assert plans[-1].end == GIB


def test_a_sequential_reader_finds_all_but_its_first_read_planned() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    reached = 0
    for number, (start, end) in enumerate(sequential(0, 512 * MIB, MIB)):
        assert number == 0 or end <= reached
        plan = ahead.read(start, end, GIB)
        reached = max(reached, plan.end, end)


def test_reads_out_of_order_within_the_kernels_window_count_as_sequential() -> None:
    reads = sequential(0, 64 * MIB)
    shuffled = []
    for at in range(0, len(reads), 8):
        batch = reads[at : at + 8]
        random.Random(at).shuffle(batch)
        shuffled += batch
    ahead = ReadAhead(GIB, WINDOW)
    plans = plans_of(ahead, shuffled)
    assert plans[-1].end > 64 * MIB + WINDOW // 2


def test_only_a_sequential_reader_is_promised_what_comes_next() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    assert ahead.promise(0) == 0
    for start, end in sequential(0, 256 * MIB, MIB):
        ahead.read(start, end, GIB)
    assert ahead.promise(256 * MIB) == WINDOW // PROMISE_SHARE
    assert ahead.promise(255 * MIB) == 0  # others of its reads were answered already
    ahead.read(600 * MIB, 601 * MIB, GIB)
    assert ahead.promise(601 * MIB) == 0


def test_reads_that_were_under_way_when_more_was_promised_belong_to_the_stream() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    at = 0
    while at < 512 * MIB:
        ahead.read(at, at + MIB, GIB)  # four reads come at once: the first one's answer promises
        promised = ahead.promise(at + MIB)
        if promised >= 4 * MIB:
            ahead.promised(at + MIB, at + MIB + promised)
        for start, end in sequential(at + MIB, at + 4 * MIB, MIB):
            ahead.read(start, end, GIB)
        at += max(4 * MIB, MIB + promised)
    ahead.close()
    assert ahead.wasted_bytes <= WINDOW  # that of one stream: no read was taken for another's
    assert ahead.planned_bytes <= at + WINDOW


def test_a_promise_plans_nothing_before_the_reader_has_made_use_of_it() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    ahead.read(0, 10, GIB)
    planned = ahead.planned_bytes
    ahead.promised(10, 10 + ahead.promise(10))
    ahead.read(500 * MIB, 500 * MIB + 10, GIB)
    assert ahead.planned_bytes == planned
    ahead.read(10 + INITIAL_WINDOW_BYTES // PROMISE_SHARE, 2 * MIB, GIB)
    assert ahead.planned_bytes > planned


def test_a_promise_ends_with_the_file() -> None:
    ahead = ReadAhead(100 * MIB + 5, WINDOW)
    for start, end in sequential(0, 99 * MIB, MIB):
        ahead.read(start, end, GIB)
    assert ahead.promise(99 * MIB) == MIB + 5


def test_random_reads_plan_nothing() -> None:
    chance = random.Random(1)
    ahead = ReadAhead(100 * GIB, WINDOW)
    starts = [chance.randrange(1, 100 * GIB // 4096) * 4096 for _ in range(2000)]
    assert plans_of(ahead, [(start, start + 4096) for start in starts]) == []


def test_backward_reads_plan_nothing() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    reads = sequential(256 * MIB, 512 * MIB)
    assert plans_of(ahead, reads[::-1]) == []


def test_strided_reads_soon_plan_nothing() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    reads = [(at, at + 4096) for at in range(MIB, 512 * MIB, MIB)]
    assert plans_of(ahead, reads) == []


def test_strides_after_a_long_run_end_its_read_ahead() -> None:
    ahead = ReadAhead(8 * GIB, WINDOW)
    plans_of(ahead, sequential(0, GIB, MIB))
    strides = [(at, at + 4096) for at in range(GIB + MIB, 2 * GIB, MIB)]
    assert plans_of(ahead, strides[64:]) == [] or plans_of(ahead, strides[128:]) == []


def test_two_readers_of_one_handle_each_get_their_window() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    first, second = sequential(0, 32 * MIB), sequential(512 * MIB, 544 * MIB)
    reads = [read for pair in zip(first, second, strict=True) for read in pair]
    plans = plans_of(ahead, reads)
    assert any(plan.start < 512 * MIB for plan in plans[-6:])
    assert any(plan.start > 512 * MIB for plan in plans[-6:])


def test_a_small_file_is_planned_whole_once() -> None:
    ahead = ReadAhead(WHOLE_FILE_BYTES, WINDOW)
    assert ahead.read(MIB, MIB + 4096, GIB) == Plan(0, WHOLE_FILE_BYTES)
    assert ahead.read(2 * MIB, 3 * MIB, GIB) == NOTHING


def test_a_reader_that_stops_wastes_what_was_planned() -> None:
    ahead = ReadAhead(GIB, WINDOW)
    ahead.read(0, READ, GIB)
    ahead.close()
    assert (ahead.planned_bytes, ahead.used_bytes) == (2 * MIB, 0)
    assert ahead.wasted_bytes == 2 * MIB


@given(
    size=st.integers(1, 200 * MIB),
    largest=st.integers(4096, WINDOW),
    reads=st.lists(st.tuples(st.integers(0, 200 * MIB), st.integers(1, 8 * MIB)), max_size=60),
    allowances=st.lists(st.integers(0, 32 * MIB), min_size=60, max_size=60),
)
def test_plans_stay_in_the_file_the_window_and_the_allowance(
    size: int, largest: int, reads: list[tuple[int, int]], allowances: list[int]
) -> None:
    ahead = ReadAhead(size, largest)
    for (start, length), allowance in zip(reads, allowances, strict=False):
        start %= size
        end = min(start + length, size)
        plan = ahead.read(start, end, allowance)
        assert 0 <= plan.start <= plan.end <= size
        if size > WHOLE_FILE_BYTES:
            assert plan.size <= allowance
            assert plan.size == 0 or plan.end - end <= largest + 8 * MIB
    ahead.close()
    assert 0 <= ahead.used_bytes + ahead.wasted_bytes <= ahead.planned_bytes


@given(start=st.integers(-5, 5), end=st.integers(-5, 20))
def test_ranges_that_make_no_sense_plan_nothing(start: int, end: int) -> None:
    if not 0 <= start < end <= 10:
        assert ReadAhead(10, WINDOW).read(start, end, GIB) == NOTHING
