"""Pools of workers for tests, as a membership has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fluidpy.cluster.membership import DatasetMembership, Member, Membership
from fluidpy.cluster.placement import Placement

KEY = "default/images"


def workers(
    capacities: Sequence[int], machines: Sequence[str] = (), zones: Sequence[str] = ()
) -> list[Member]:
    """Workers with these capacities; each on a machine of its own where none are given."""
    return [
        Member(
            f"worker-{at}",
            f"127.0.0.1:{41000 + at}",
            machines[at] if machines else f"machine-{at}",
            capacity,
            zones[at] if zones else "",
        )
        for at, capacity in enumerate(capacities)
    ]


def membership(
    members: Iterable[Member],
    replicas: int = 1,
    previous: tuple[str, ...] = (),
    generation: int = 1,
) -> Membership:
    """One Dataset on all of these members."""
    members = tuple(members)
    names = tuple(member.name for member in members)
    datasets = {KEY: DatasetMembership(names, replicas, previous, "token")}
    return Membership(generation, members, datasets)


def placement(
    members: Iterable[Member], replicas: int = 1, previous: tuple[str, ...] = ()
) -> Placement:
    """The placement of that Dataset."""
    return Placement(membership(members, replicas, previous), KEY)
