"""Whom to ask for bytes that are not here, before their source: pure.

The best owner of a unit fetches it for all, so it asks nobody to fetch; others ask it. While no
owner answers, the member that would come next stands in for them, so that still one fetches. What a
worker is asked by another one it passes on to nobody, except to ask who has the bytes already:
so no request can go round in a circle, however different the pool looks to its members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from fluidpy.cluster.membership import Member


class Role(Enum):
    """What a worker is to the bytes that it is asked for."""

    OWNER = "owner"
    REPLICA = "replica"
    FORMER_OWNER = "former_owner"


class Step(NamedTuple):
    """A worker to ask; with `only_cached` it gives what it has and fetches nothing."""

    member: Member
    role: Role
    only_cached: bool


def route(
    owners: Sequence[Member], former: Sequence[Member], me: str, *, asked_by_peer: bool
) -> tuple[Step, ...]:
    """The workers to ask, in order; after them the source. Empty: the source at once.

    `owners` are those of the unit, the best first; `former` those it had before the last change
    while data still moves; `me` is this worker's name. `asked_by_peer`: another worker wants it.
    """
    rank = next((number for number, owner in enumerate(owners) if owner.name == me), None)
    better = owners if rank is None else owners[:rank]
    worse = () if rank is None else owners[rank + 1 :]
    if asked_by_peer:
        better, worse = (), [owner for owner in owners if owner.name != me]
    steps = [
        Step(owner, Role.REPLICA if number else Role.OWNER, False)
        for number, owner in enumerate(better)
    ]
    holders = [Step(each, Role.FORMER_OWNER, True) for each in former if each.name != me]
    holders += [
        Step(owner, Role.OWNER if owner is owners[0] else Role.REPLICA, True) for owner in worse
    ]
    return (*steps, *holders)


def stand_in(
    ranked: Sequence[Member],
    owners: Sequence[Member],
    me: str,
    is_well: Callable[[str], bool],
) -> Step | None:
    """Who fetches for all while no owner answers; None: an owner does, or this worker has to.

    `ranked` are all members in the order of the unit, `is_well` says of a name whether it answers.
    Members that see the others alike choose the same one; where they do not, two of them fetch.
    """
    best = _next_best(ranked, owners, me, is_well)
    return None if best is None or best.name == me else Step(best, Role.REPLICA, False)


def stands_in(
    ranked: Sequence[Member], owners: Sequence[Member], me: str, is_well: Callable[[str], bool]
) -> bool:
    """Whether this worker fetches for all while no owner answers; as in `stand_in`.

    What it keeps then is no copy: nobody else that can be asked has it.
    """
    best = _next_best(ranked, owners, me, is_well)
    return best is not None and best.name == me


def _next_best(
    ranked: Sequence[Member], owners: Sequence[Member], me: str, is_well: Callable[[str], bool]
) -> Member | None:
    """The first one after the owners that answers; None while an owner does, or is this worker."""
    names = {owner.name for owner in owners}
    if me in names or any(is_well(name) for name in names):
        return None
    others = (each for each in ranked if each.name not in names and not each.draining)
    return next((each for each in others if each.name == me or is_well(each.name)), None)
