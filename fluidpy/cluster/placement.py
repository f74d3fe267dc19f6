"""Who owns a unit of data: weighted rendezvous hashing over a Dataset's members (pure).

A unit is an object of at most 64 MiB, or a 64 MiB piece of a larger one. Each member draws a score
for each unit, and the best scores own it. So every worker computes the same owners without asking
anyone; a member that comes takes only what it now owns, and what a member that goes had is spread
over all that stay. Scores are weighted by capacity, and do not depend on process, platform or the
order of members.

The owners of one unit lie in different zones where members are labelled with enough of them, else
on different machines, else on different workers: as far apart as the pool allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from fluidpy.cluster.fair_weights import fair_weights
from fluidpy.cluster.membership import Member, Membership
from fluidpy.errors import ClusterError

UNIT_BYTES: Final = 64 << 20
"""The most bytes of one object that are placed together (design: "unit = object, or 64 MiB piece").

Large enough that a reader of one object stays with one worker for a while and that an owner is
computed once for many blocks, small enough that a few large objects spread over a pool."""

UNITS_REMEMBERED: Final = 4096
"""Units whose owners are remembered: those being read; about 300 bytes each."""

_WORD: Final = (1 << 64) - 1
# The multipliers of the 64-bit finaliser of MurmurHash3 (Austin Appleby, public domain).
_FIRST: Final = 0xFF51AFD7ED558CCD
_SECOND: Final = 0xC4CEB9FE1A85EC53
_SECOND_DRAW: Final = 0x9E3779B97F4A7C15
"""Makes another draw of the same unit: 2^64 divided by the golden ratio, as good as any."""


def unit_of(key: bytes, offset: int, size: int) -> bytes:
    """The unit that the byte at `offset` of an object lies in; `key` names object and version."""
    if size <= UNIT_BYTES:
        return key
    return key + (offset // UNIT_BYTES).to_bytes(8, "little")


def pieces_of(start: int, end: int) -> Iterable[tuple[int, int]]:
    """The range [start, end) of an object cut where one unit may end and the next begins."""
    while start < end:
        stop = min(end, (start // UNIT_BYTES + 1) * UNIT_BYTES)
        yield start, stop
        start = stop


class Placement:
    """The owners of each unit of one Dataset in one generation of the pool.

    Raises ClusterError when the Dataset is not in the membership.
    """

    def __init__(self, membership: Membership, dataset: str) -> None:
        placed = membership.datasets.get(dataset)
        if placed is None:
            raise ClusterError(
                f"The Dataset {dataset} is not placed on any worker of the pool",
                cure="Apply it, or wait until it is bound: `fluidpy get dataset` shows its phase.",
            )
        named = {member.name: member for member in membership.members}
        members = [named[name] for name in placed.members if name in named]
        before = [named[name] for name in placed.previous if name in named]
        self.generation = membership.generation
        self.replicas = placed.replicas
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self._now = _Ranking([m for m in members if not m.draining], placed.replicas)
        self._draining = _Ranking([m for m in members if m.draining], placed.replicas)
        # Who may still hold a unit: its owners by the members of before, and those it would have if
        # nobody were draining, should a drain not be noted in `previous`.
        self._before = [
            _Ranking(each, replicas)
            for each, replicas in (
                (before, placed.previous_replicas or placed.replicas),
                (members if self._draining.members else [], placed.replicas),
            )
            if each
        ]
        self.moving = bool(self._before)
        self._remembered = lru_cache(UNITS_REMEMBERED)(self._now.owners)

    def owners(self, unit: bytes) -> tuple[Member, ...]:
        """The owners of a unit, best first: `replicas` of them or as many as there are.

        None of them is draining; none at all where every member is.
        """
        return self._remembered(unit)

    def ranked(self, unit: bytes) -> tuple[Member, ...]:
        """All members in the order to ask them: owners, then the others, draining ones last."""
        return (*self._now.ranked(unit), *self._draining.ranked(unit))

    def former_owners(self, unit: bytes) -> tuple[Member, ...]:
        """Members that owned a unit before the last change and do not now; () when settled."""
        if not self._before:
            return ()
        found = dict.fromkeys(owner for ranking in self._before for owner in ranking.owners(unit))
        owners = self.owners(unit)
        return tuple(member for member in found if member not in owners)

    def is_owner(self, name: str, unit: bytes) -> bool:
        """Whether the member of that name owns the unit."""
        return any(owner.name == name for owner in self.owners(unit))

    def owned_before(self, name: str, unit: bytes) -> bool:
        """Whether the member of that name owned the unit before the last change, if data moves."""
        return bool(self._before) and any(
            owner.name == name for owner in self._before[0].owners(unit)
        )


class _Ranking:
    """Members in the order of their scores for a unit, the best ones spread apart."""

    def __init__(self, members: list[Member], replicas: int) -> None:
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self._replicas = min(replicas, len(members))
        self._seeds = [_point(b"member\0" + member.name.encode()) for member in self.members]
        weights = _weights(self.members, self._replicas)
        self._weights = None if len(set(weights)) <= 1 else weights
        machines = {member.machine for member in members}
        self._spread = len(machines) < len(members) or any(member.zone for member in members)

    def owners(self, unit: bytes) -> tuple[Member, ...]:
        """As many as there are replicas, as far apart as the members allow."""
        if self._replicas == 1:
            scores = self._scores(_point(unit))
            return (self.members[scores.index(max(scores))],)
        return self.ranked(unit)[: self._replicas]

    def ranked(self, unit: bytes) -> tuple[Member, ...]:
        """All members, the owners first."""
        point = _point(unit)
        scores = self._scores(point)
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        if self._replicas <= 1:
            return tuple(self.members[at] for at in order)
        if self._spread:
            order = _spread_apart(order, self.members, self._replicas)
        if self._weights or self._spread:
            # The weights make each an owner as often as it should be. That none of them is the
            # first owner, whom most readers ask, more often than its share is for a second draw.
            draws = [_mixed(point ^ _SECOND_DRAW, seed) for seed in self._seeds]
            first = sorted(order[: self._replicas], key=draws.__getitem__)
            order = [*first, *order[self._replicas :]]
        return tuple(self.members[at] for at in order)

    def _scores(self, point: int) -> Sequence[float]:
        words = [
            ((x := (point ^ seed) * _FIRST & _WORD) ^ x >> 32) * _SECOND & _WORD
            for seed in self._seeds  # `_mixed`, written out: a call each would double the time
        ]
        if self._weights is None:
            return words
        # -ln(u)/w of a uniform u is exponential with rate w: the least of them belongs to a member
        # with the probability of its weight among all.
        return [
            math.log((word + 0.5) / 2**64) / weight if weight else -math.inf
            for word, weight in zip(words, self._weights, strict=True)
        ]


def _weights(members: Sequence[Member], replicas: int) -> list[float]:
    """The weight of each member, so that it owns as much as its capacity asks for.

    The race (`fair_weights`) is between the zones, machines or workers that owners must differ in;
    the members of one share its weight.
    """
    capacities = [float(member.capacity_bytes) for member in members]
    if not any(capacities):
        return [1.0] * len(members)  # memory of unknown size: all are alike
    if replicas == 1:
        return capacities
    places = _places(members, replicas)
    totals: dict[object, float] = {}
    for place, capacity in zip(places, capacities, strict=True):
        totals[place] = totals.get(place, 0.0) + capacity
    rated = {place: total for place, total in totals.items() if total}
    weights = dict(zip(rated, fair_weights(tuple(rated.values()), replicas), strict=True))
    return [
        weights[place] * capacity / totals[place] if capacity else 0.0
        for place, capacity in zip(places, capacities, strict=True)
    ]


def _places(members: Sequence[Member], replicas: int) -> Sequence[object]:
    """Of each member what no two owners should share: the widest of which there are enough."""
    zones = [_zone(member) for member in members]
    machines = [member.machine for member in members]
    if len(set(zones)) >= replicas:
        return zones
    return machines if len(set(machines)) >= replicas else [member.name for member in members]


def _spread_apart(order: list[int], members: Sequence[Member], replicas: int) -> list[int]:
    """The same order with `replicas` of them in front that are as far apart as they can be."""
    chosen: list[int] = []
    rest = order
    while len(chosen) < replicas:
        zones = {_zone(members[at]) for at in chosen}
        machines = {members[at].machine for at in chosen}
        elsewhere = [at for at in rest if members[at].machine not in machines]
        far = next((at for at in elsewhere if _zone(members[at]) not in zones), None)
        best = far if far is not None else (elsewhere or rest)[0]
        chosen.append(best)
        rest = [at for at in rest if at != best]
    return [*chosen, *rest]


def _zone(member: Member) -> tuple[str, str]:
    """What a member shares a failure with; one without a label only its machine."""
    return (member.zone, "") if member.zone else ("", member.machine)


def _point(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


def _mixed(point: int, seed: int) -> int:
    """64 bits that look random, from two that do."""
    word = (point ^ seed) * _FIRST & _WORD
    return (word ^ word >> 32) * _SECOND & _WORD
