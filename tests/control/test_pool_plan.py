"""Which workers there are and who lies on them: properties of the plan."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cluster.membership import Membership
from fluidpy.control.pool_plan import EMPTY, Demand, PoolFacts, plan_pool

SETTLED = PoolFacts()
MOVING = PoolFacts(settled=False)

demands = st.dictionaries(
    st.sampled_from([f"default/d{n}" for n in range(6)]), st.integers(0, 5), max_size=6
).map(lambda sizes: [Demand(key, count) for key, count in sizes.items()])


def until_settled(current: Membership, wanted: list[Demand]) -> Membership:
    for _ in range(10):
        following = plan_pool(current, wanted, SETTLED)
        if following == current:
            return current
        current = following
    raise AssertionError("the plan does not come to rest")


@given(st.lists(demands, min_size=1, max_size=5))
def test_the_pool_becomes_what_is_wanted_and_rests(history: list[list[Demand]]) -> None:
    current = EMPTY
    for wanted in history:
        current = until_settled(current, wanted)
        assert len(current.members) == max((one.workers for one in wanted), default=0)
        assert set(current.datasets) == {one.key for one in wanted}
        names = {member.name for member in current.members}
        for one in wanted:
            placed = current.datasets[one.key]
            assert len(set(placed.members)) == one.workers
            assert set(placed.members) <= names
            assert placed.previous == ()


@given(demands, demands)
def test_who_still_hands_over_or_is_used_stays(first: list[Demand], second: list[Demand]) -> None:
    current = until_settled(EMPTY, first)
    names = {member.name for member in current.members}
    following = plan_pool(current, second, MOVING)
    kept = {name for one in following.datasets.values() for name in one.previous}
    assert kept <= {member.name for member in following.members}
    used = plan_pool(current, second, PoolFacts(held=frozenset(names)))
    assert names <= {member.name for member in used.members}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40))
def test_datasets_are_spread_evenly(sizes: list[int]) -> None:
    wanted = [Demand(f"default/d{n:02}", count) for n, count in enumerate(sizes)]
    current = until_settled(EMPTY, wanted)
    loads = [
        sum(member.name in one.members for one in current.datasets.values())
        for member in current.members
    ]
    assert max(loads) - min(loads) <= 1


@given(demands)
def test_the_same_wishes_change_nothing(wanted: list[Demand]) -> None:
    current = until_settled(EMPTY, wanted)
    assert plan_pool(current, list(reversed(wanted)), MOVING) is current


def test_the_worker_that_was_named_leaves() -> None:
    current = until_settled(EMPTY, [Demand("default/a", 5)])
    wanted = [Demand("default/a", 4, drain=frozenset({"worker-1"}))]
    draining = plan_pool(current, wanted, MOVING)
    leaving = [member.name for member in draining.members if member.draining]
    assert leaving == ["worker-1"]
    assert draining.datasets["default/a"].previous == current.datasets["default/a"].members
    assert {m.name for m in until_settled(draining, wanted).members} == {
        "worker-0",
        "worker-2",
        "worker-3",
        "worker-4",
    }


def test_a_second_move_waits_for_the_first_unless_it_is_overdue() -> None:
    current = until_settled(EMPTY, [Demand("default/a", 2)])
    moving = plan_pool(current, [Demand("default/a", 3)], MOVING)
    waiting = plan_pool(moving, [Demand("default/a", 4)], MOVING)
    assert len(waiting.datasets["default/a"].members) == 3
    overdue = PoolFacts(settled=False, overdue=frozenset({"default/a"}))
    assert (
        len(plan_pool(waiting, [Demand("default/a", 4)], overdue).datasets["default/a"].members)
        == 4
    )


def test_more_copies_on_the_same_workers_are_a_move() -> None:
    current = until_settled(EMPTY, [Demand("default/a", 3)])
    wanted = [Demand("default/a", 3, copies=2)]
    placed = plan_pool(current, wanted, MOVING).datasets["default/a"]
    assert (placed.previous, placed.previous_replicas, placed.replicas) == (placed.members, 1, 2)
    settled = until_settled(current, wanted).datasets["default/a"]
    assert (settled.previous, settled.previous_replicas, settled.replicas) == ((), 0, 2)


def test_one_that_drains_is_taken_back_before_a_new_one_is_made() -> None:
    current = until_settled(EMPTY, [Demand("default/a", 3)])
    less = plan_pool(current, [Demand("default/a", 2)], MOVING)
    again = until_settled(less, [Demand("default/a", 3)])
    assert [member.name for member in again.members] == ["worker-0", "worker-1", "worker-2"]


def test_two_hundred_datasets_share_few_workers() -> None:
    wanted = [Demand(f"default/d{n}", 1 + n % 3) for n in range(200)]
    assert len(until_settled(EMPTY, wanted).members) == 3


@given(st.integers(1, 6), st.integers(0, 6), st.sets(st.integers(0, 5)))
def test_who_is_in_use_leaves_last(before: int, after: int, used: set[int]) -> None:
    current = until_settled(EMPTY, [Demand("default/a", before)])
    in_use = frozenset(f"worker-{n}" for n in used if n < before)
    plan = plan_pool(current, [Demand("default/a", min(after, before))], PoolFacts(in_use=in_use))
    leaving = {member.name for member in plan.members if member.draining}
    leaving |= {m.name for m in current.members} - {m.name for m in plan.members}
    assert len(leaving) == max(0, before - after)
    assert len(leaving & in_use) == max(0, len(leaving) - (before - len(in_use)))
