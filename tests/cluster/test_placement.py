"""Who owns what in a pool."""

from __future__ import annotations

import pytest

from fluidpy.cluster.membership import DatasetMembership, Member, Membership
from fluidpy.cluster.placement import UNIT_BYTES, Placement, pieces_of, unit_of
from fluidpy.errors import ClusterError

KEY = "default/images"


def pool(*members: Member, replicas: int = 1, previous: tuple[str, ...] = ()) -> Placement:
    names = tuple(member.name for member in members)
    datasets = {KEY: DatasetMembership(names, replicas, previous)}
    return Placement(Membership(1, members, datasets), KEY)


def workers(count: int) -> list[Member]:
    return [Member(f"worker-{at}", "", f"machine-{at}", 1 << 30) for at in range(count)]


def test_an_unknown_dataset_is_named() -> None:
    with pytest.raises(ClusterError, match="default/other is not placed"):
        Placement(Membership(1, (), {}), "default/other")


def test_units_are_objects_or_pieces() -> None:
    assert unit_of(b"k", 0, UNIT_BYTES) == b"k"
    large = [unit_of(b"k", offset, UNIT_BYTES + 1) for offset in (0, UNIT_BYTES - 1, UNIT_BYTES)]
    assert large[0] == large[1] != large[2]
    assert list(pieces_of(UNIT_BYTES - 1, 2 * UNIT_BYTES + 1)) == [
        (UNIT_BYTES - 1, UNIT_BYTES),
        (UNIT_BYTES, 2 * UNIT_BYTES),
        (2 * UNIT_BYTES, 2 * UNIT_BYTES + 1),
    ]


def test_a_draining_member_owns_nothing_and_is_asked_last() -> None:
    members = workers(3)
    draining = Member("worker-3", "", "machine-3", 1 << 30, draining=True)
    before, now = pool(*members), pool(*members, draining)
    for at in range(200):
        unit = b"%d" % at
        assert now.owners(unit) == before.owners(unit)
        assert now.ranked(unit) == (*before.ranked(unit), draining)
        assert now.former_owners(unit) in ((), (draining,))
