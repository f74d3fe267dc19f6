"""Which files are held and which are let go: a table of values, no device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.fuse.open_files import (
    ACTIVE_SECONDS,
    IDLE_BYTES,
    IDLE_FILES,
    IDLE_SECONDS,
    HeldFd,
    OpenFile,
    OpenFileTable,
)


def test_known_blocks_are_whole_ones() -> None:
    file = OpenFile(row=1, size=1000, held=HeldFd(9))
    file.learn(150, 250, 100)
    assert file.holds(100, 300, 100)
    assert not file.holds(99, 200, 100)
    assert not file.holds(250, 301, 100)


def test_nothing_is_known_without_an_fd() -> None:
    assert not OpenFile(row=1, size=10, complete=True).holds(0, 1, 100)


def test_an_open_file_stays_and_a_closed_one_leaves_after_a_while() -> None:
    table = OpenFileTable(100)
    table.acquire(5)
    table.add(OpenFile(row=5, size=10), 0.0)
    assert table.surplus(IDLE_SECONDS * 10) == []
    table.release(5)
    taken = table.surplus(IDLE_SECONDS * 10)
    assert [file.row for file in taken] == [5]
    assert taken[0].dropped
    assert len(table) == 0


def test_a_large_closed_file_leaves_at_once() -> None:
    table = OpenFileTable(100)
    table.acquire(5)
    table.add(OpenFile(row=5, size=IDLE_BYTES + 1), 0.0)
    table.release(5)
    assert [file.row for file in table.surplus(0.0)] == [5]


def test_a_large_file_whose_opens_nobody_sees_stays_while_it_is_read() -> None:
    table = OpenFileTable(100)
    table.add(OpenFile(row=5, size=IDLE_BYTES + 1), 0.0)
    for turn in range(4):
        assert table.get(5, turn * ACTIVE_SECONDS / 2) is not None
        assert table.surplus(turn * ACTIVE_SECONDS / 2) == []
    assert [file.row for file in table.surplus(3 * ACTIVE_SECONDS)] == [5]


def test_what_is_being_read_is_never_taken() -> None:
    table = OpenFileTable(1)
    for row in range(5):
        table.add(OpenFile(row=row, size=IDLE_BYTES, reads=1), 0.0)
    assert table.surplus(IDLE_SECONDS * 10) == []


def test_beyond_the_limit_the_least_recently_used_go_even_if_open() -> None:
    table = OpenFileTable(3)
    for row in range(5):
        table.acquire(row)
        table.add(OpenFile(row=row, size=1), 0.0)
    table.get(0, 1.0)
    assert [file.row for file in table.surplus(1.0)] == [1, 2]


@given(
    st.lists(st.tuples(st.sampled_from(["open", "close", "read", "wait"]), st.integers(0, 9))),
    st.integers(1, 6),
)
def test_idle_files_stay_within_bounds(steps: list[tuple[str, int]], limit: int) -> None:
    table, now, opened = OpenFileTable(limit), 0.0, [0] * 10
    for step, row in steps:
        if step == "open":
            table.acquire(row)
            opened[row] += 1
        elif step == "close" and opened[row]:
            table.release(row)
            opened[row] -= 1
        elif step == "read" and table.get(row, now) is None:
            table.add(OpenFile(row=row, size=IDLE_BYTES // 4), now)
        elif step == "wait":
            now += IDLE_SECONDS / 2
        table.surplus(now)
        held = list(table)
        assert len(held) <= limit
        idle = [file for file in held if not opened[file.row]]
        assert len(idle) <= IDLE_FILES
        assert sum(file.size for file in idle if not file.may_be_open(now)) <= IDLE_BYTES
