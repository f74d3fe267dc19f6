"""Who takes what over from whom when members come and go: nothing twice, nothing needlessly."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fluidpy.cluster.membership import DatasetMembership, Membership
from fluidpy.cluster.peer_protocol import Presence
from fluidpy.cluster.placement import UNIT_BYTES, Placement, unit_of
from fluidpy.cluster.rebalance_plan import Move, by_holder, hottest_first, keeping, moves_to
from tests.cluster.pools import KEY, workers

NAMES = tuple(f"worker-{at}" for at in range(6))
some_names = st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: tuple(sorted(names)))
sizes = st.integers(1, 3 * UNIT_BYTES)
keys = st.binary(min_size=1, max_size=16)


def placed(
    now: tuple[str, ...],
    before: tuple[str, ...],
    replicas: int = 1,
    draining: tuple[str, ...] = (),
    previous_replicas: int = 0,
) -> Placement:
    members = [replace(m, draining=m.name in draining) for m in workers([1 << 30] * len(NAMES))]
    datasets = {KEY: DatasetMembership(now, replicas, before, "", previous_replicas)}
    return Placement(Membership(1, tuple(members), datasets), KEY)


def owners(placement: Placement, key: bytes, start: int, size: int) -> set[str]:
    return {owner.name for owner in placement.owners(unit_of(key, start, size))}


@settings(deadline=None)
@given(some_names, some_names, st.integers(1, 3), keys, sizes)
def test_each_new_owner_takes_over_from_those_before_and_nobody_else_does(
    now: tuple[str, ...], before: tuple[str, ...], replicas: int, key: bytes, size: int
) -> None:
    placement, past = placed(now, before, replicas), placed(before, (), replicas)
    for name in NAMES:
        moves = {move.start: move for move in moves_to(placement, name, key, size)}
        for start in range(0, size, UNIT_BYTES):
            new, old = owners(placement, key, start, size), owners(past, key, start, size)
            if name in new - old:
                move = moves.pop(start)
                assert move.end == min(start + UNIT_BYTES, size)
                assert {holder.name for holder in move.holders} == old
        assert not moves


@settings(deadline=None)
@given(some_names, st.integers(1, 4), st.integers(1, 4), keys, sizes)
def test_more_replicas_of_the_same_members_are_copied_and_fewer_move_nothing(
    names: tuple[str, ...], before: int, now: int, key: bytes, size: int
) -> None:
    past, placement = placed(names, (), before), placed(names, names, now, previous_replicas=before)
    for start in range(0, size, UNIT_BYTES):
        new, old = owners(placement, key, start, size), owners(past, key, start, size)
        moved = {
            name: {holder.name for holder in move.holders}
            for name in NAMES
            for move in moves_to(placement, name, key, size)
            if move.start == start
        }
        assert moved == dict.fromkeys(new - old, old)
        assert len(moved) == max(0, min(now, len(names)) - min(before, len(names)))


@settings(deadline=None)
@given(some_names, st.integers(1, 3), keys, sizes)
def test_nothing_moves_when_all_is_settled(
    now: tuple[str, ...], replicas: int, key: bytes, size: int
) -> None:
    placement = placed(now, (), replicas)
    assert not any(moves_to(placement, name, key, size) for name in NAMES)


@settings(deadline=None)
@given(st.integers(1, 3), keys, sizes)
def test_a_member_that_drains_hands_all_to_the_others(replicas: int, key: bytes, size: int) -> None:
    """Whether or not the control plane noted it as one of the members before."""
    past = placed(NAMES, (), replicas)
    for placement in (
        placed(NAMES, (), replicas, draining=("worker-5",)),
        placed(NAMES[:5], NAMES, replicas, draining=("worker-5",)),
    ):
        assert moves_to(placement, "worker-5", key, size) == []
        for start in range(0, size, UNIT_BYTES):
            taken = [
                move
                for name in NAMES
                for move in moves_to(placement, name, key, size)
                if move.start == start
            ]
            handed_over = "worker-5" in owners(past, key, start, size)
            assert len(taken) == int(handed_over)
            assert all(move.holders[0].name == "worker-5" for move in taken)


@settings(deadline=None)
@given(some_names, some_names, st.integers(1, 3), keys, sizes)
def test_all_bytes_are_kept_as_what_they_are(
    now: tuple[str, ...], before: tuple[str, ...], replicas: int, key: bytes, size: int
) -> None:
    placement = placed(now, before, replicas)
    for name in NAMES:
        kept = keeping(placement, name, key, size)
        assert sorted((each.start, each.end) for each in kept)[0][0] == 0
        assert sum(each.end - each.start for each in kept) == size
        assert [each.copy for each in kept] == sorted((each.copy for each in kept), reverse=True)
        for each in kept:
            assert each.copy == (name not in owners(placement, key, each.start, size))


def test_questions_are_short_and_name_each_move_once_for_each_holder() -> None:
    a, b = workers([1, 1])
    moves = [Move(0, 1, (a,)), Move(0, 1, (b, a)), Move(0, 1, (a,))]
    asked = by_holder(moves, 2)
    assert asked == [(a, [0, 1]), (a, [2]), (b, [1])]


def test_the_hottest_comes_first_and_what_nobody_has_not_at_all() -> None:
    items = [("cold", 1, 5.0), ("gone", 0, 9.0), ("hot", 1, 7.0)]
    held = [(name, Presence(size, True, used)) for name, size, used in items]
    assert [name for name, _ in hottest_first(held)] == ["hot", "cold"]
