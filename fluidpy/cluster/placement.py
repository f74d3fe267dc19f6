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
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

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
            _Ranking(each, placed.replicas)
            for each in (before, members if self._draining.members else [])
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


class _Ranking:
    """Members in the order of their scores for a unit, the best ones spread apart."""

    def __init__(self, members: list[Member], replicas: int) -> None:
        self.members = tuple(sorted(members, key=lambda member: member.name))
        self._replicas = min(replicas, len(members))
        self._seeds = [_point(b"member\0" + member.name.encode()) for member in self.members]
        largest = max((member.capacity_bytes for member in members), default=0)
        # Without any capacity (memory of unknown size) all are alike.
        weights = [m.capacity_bytes / largest if largest else 1.0 for m in self.members]
        self._shares = None if all(w == 1.0 for w in weights) else weights
        self._spread = any(m.zone for m in members) or len({m.machine for m in members}) < len(
            members
        )

    def owners(self, unit: bytes) -> tuple[Member, ...]:
        """As many as there are replicas, as far apart as the members allow."""
        if self._replicas == 1:
            scores = self._scores(_point(unit))
            return (self.members[scores.index(max(scores))],)
        return self.ranked(unit)[: self._replicas]

    def ranked(self, unit: bytes) -> tuple[Member, ...]:
        """All members, the owners first."""
        scores = self._scores(_point(unit))
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        ranked = [self.members[at] for at in order]
        if self._spread and self._replicas > 1:
            return _spread_apart(ranked, self._replicas)
        return tuple(ranked)

    def _scores(self, point: int) -> list[float]:
        words = [
            ((x := (point ^ seed) * _FIRST & _WORD) ^ x >> 32) * _SECOND & _WORD
            for seed in self._seeds
        ]
        if self._shares is None:
            return words  # type: ignore[return-value]  # whole numbers are scores as good
        # -ln(u)/w of a uniform u is exponential with rate w: the least of them belongs to a member
        # with the probability of its weight among all.
        return [
            math.log((word + 0.5) / 2**64) / share if share else -math.inf
            for word, share in zip(words, self._shares, strict=True)
        ]


def _spread_apart(ranked: list[Member], replicas: int) -> tuple[Member, ...]:
    """The same members with the first `replicas` as far apart as they can be, in order of score."""
    chosen: list[Member] = []
    rest = ranked
    while rest and len(chosen) < replicas:
        zones = {_zone(member) for member in chosen}
        machines = {member.machine for member in chosen}
        best = next((m for m in rest if _zone(m) not in zones and m.machine not in machines), None)
        best = best or next((m for m in rest if m.machine not in machines), rest[0])
        chosen.append(best)
        rest = [member for member in rest if member is not best]
    return (*chosen, *rest)


def _zone(member: Member) -> tuple[str, str]:
    """What a member shares a failure with; one without a label only its machine."""
    return (member.zone, "") if member.zone else ("", member.machine)


def _point(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
