"""A move may take as long as it needs, and not for ever when nothing comes any more."""

from __future__ import annotations

from fluidpy.control.move_watch import STALLED_SECONDS, MoveWatch


def test_a_long_move_is_not_cut_off_while_bytes_come() -> None:
    watch = MoveWatch()
    for number in range(100):
        now = number * STALLED_SECONDS / 2
        assert watch.stalled({"default/a"}, number, now) == frozenset()


def test_a_move_of_which_nothing_comes_is_waited_for_no_longer() -> None:
    watch = MoveWatch()
    assert not watch.stalled({"default/a"}, 7, 0.0)
    assert not watch.stalled({"default/a", "default/b"}, 7, STALLED_SECONDS)
    assert watch.stalled({"default/a", "default/b"}, 7, STALLED_SECONDS + 1) == {"default/a"}
    assert not watch.stalled(set(), 7, STALLED_SECONDS + 2)
    assert not watch.stalled({"default/a"}, 7, 2 * STALLED_SECONDS)
