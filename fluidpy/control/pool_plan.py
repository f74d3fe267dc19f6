"""Which workers there are and which Datasets lie on which: from what is declared to a membership.

Pure. The pool is as large as the Dataset that wants most workers; a Dataset lies on the workers
that have fewest, and stays where it is. Who leaves drains first: it keeps serving what it has,
owns nothing, and is gone once its data has moved and what local clients read by it can go on by
another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fluidpy.cluster.membership import DatasetMembership, Member, Membership

EMPTY: Final = Membership(0, (), {})
"""The pool before the first Dataset."""

EQUAL_CAPACITY: Final = 1 << 30
"""Weight of each member, in bytes. They are equal since capacities are: every worker has the quotas
that a Dataset's runtime declares, and default tiers share the free space evenly (`Stores`)."""

_PREFIX: Final = "worker-"


@dataclass(frozen=True, slots=True)
class Demand:
    """What one Dataset wants: so many workers, so many copies, and not these workers any more."""

    key: str
    workers: int
    copies: int = 1
    drain: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What is seen of the pool.

    `settled`: every member has moved what the present generation wants. `overdue`: Datasets whose
    data has been moving for so long that nobody waits for it any more. `in_use`: members that
    mounts of this machine read through; `held` those whose mounts have no other to go to yet.
    """

    settled: bool = True
    overdue: frozenset[str] = frozenset()
    in_use: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    machine: str = "localhost"
    settings: Mapping[str, str] = field(default_factory=dict)


def plan_pool(current: Membership, demands: Sequence[Demand], facts: PoolFacts) -> Membership:
    """The next membership; `current` itself when nothing has to change.

    Addresses of new members and tokens of new Datasets are empty: whoever carries the plan out
    fills them in.
    """
    wanted = sorted(demands, key=lambda demand: demand.key)
    members = _members(current, wanted, facts)
    staying = [member.name for member in members if not member.draining]
    datasets = _placed(current, wanted, staying, facts)
    members = tuple(member for member in members if _remains(member, datasets, facts))
    if members == current.members and datasets == dict(current.datasets):
        return current
    return replace(current, generation=current.generation + 1, members=members, datasets=datasets)


def _members(
    current: Membership, demands: Sequence[Demand], facts: PoolFacts
) -> tuple[Member, ...]:
    """The members with those added that lack, and those draining that are too many."""
    wanted = max((demand.workers for demand in demands), default=0)
    members = list(current.members)
    named = frozenset().union(*(demand.drain for demand in demands)) if demands else frozenset()
    serving = [member for member in members if not member.draining]
    load = Counter(name for one in current.datasets.values() for name in one.members)
    leaving = sorted(
        serving,
        key=lambda member: (
            member.name not in named,
            member.name in facts.in_use,  # its mounts would have to move
            load[member.name] > 0,
            -_number(member.name),
        ),
    )[: max(0, len(serving) - wanted)]
    gone = {member.name for member in leaving}
    members = [replace(m, draining=True) if m.name in gone else m for m in members]
    for _ in range(wanted - len(serving)):
        members.append(_next_member(members, named, facts))
        members.sort(key=lambda member: _number(member.name))
    return tuple(members)


def _next_member(members: list[Member], named: Collection[str], facts: PoolFacts) -> Member:
    """One that is about to leave and was not named to goes on; else a new one."""
    for index, member in enumerate(members):
        if member.draining and member.name not in named:
            return replace(members.pop(index), draining=False)
    taken = {member.name for member in members}
    number = next(n for n in range(len(members) + 1) if f"{_PREFIX}{n}" not in taken)
    return Member(f"{_PREFIX}{number}", "", facts.machine, EQUAL_CAPACITY)


def _number(name: str) -> int:
    digits = name.removeprefix(_PREFIX)
    return int(digits) if digits.isdigit() else 0


def _placed(
    current: Membership, demands: Sequence[Demand], staying: Sequence[str], facts: PoolFacts
) -> dict[str, DatasetMembership]:
    load: Counter[str] = Counter()
    for demand in demands:
        if (old := current.datasets.get(demand.key)) is not None:
            load.update(old.members)
    datasets: dict[str, DatasetMembership] = {}
    for demand in demands:
        old = current.datasets.get(demand.key) or DatasetMembership(())
        datasets[demand.key] = _one_placed(old, demand, staying, load, facts)
    return datasets


def _one_placed(
    old: DatasetMembership,
    demand: Demand,
    staying: Sequence[str],
    load: Counter[str],
    facts: PoolFacts,
) -> DatasetMembership:
    """One Dataset's members. While its data moves, the next move waits, unless that is overdue."""
    moving = bool(old.previous) and not facts.settled and demand.key not in facts.overdue
    if moving:
        return replace(old, replicas=demand.copies)
    members = _chosen(old.members, demand, staying, load)
    load.subtract(old.members)
    load.update(members)
    if set(members) == set(old.members) and old.replicas == demand.copies:
        return replace(old, previous=(), previous_replicas=0)
    before = old.replicas if old.members else 0
    return DatasetMembership(members, demand.copies, old.members, old.token, before)


def _chosen(
    old: Sequence[str], demand: Demand, staying: Sequence[str], load: Counter[str]
) -> tuple[str, ...]:
    """As many of `staying` as are wanted: those it has, then those with least; named ones last."""
    count = min(demand.workers, len(staying))
    ranked = sorted(
        staying,
        key=lambda name: (
            name in demand.drain,
            name not in old,
            load[name] if name not in old else 0,
            _number(name),
        ),
    )
    return tuple(sorted(ranked[:count], key=_number))


def _remains(member: Member, datasets: Mapping[str, DatasetMembership], facts: PoolFacts) -> bool:
    """Whether a member stays for now: it serves, still hands over, or mounts need it."""
    if not member.draining or member.name in facts.held:
        return True
    return any(member.name in (*one.members, *one.previous) for one in datasets.values())
