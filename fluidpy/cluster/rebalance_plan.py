"""What one worker has to take over when members come and go, and in which order (pure).

Each worker works out for itself which units it owns now and did not own before, and who may have
their bytes: nobody directs the move, and a worker that starts again goes on with what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from fluidpy.cluster.membership import Member
from fluidpy.cluster.peer_protocol import Presence
from fluidpy.cluster.placement import Placement, pieces_of, unit_of

_Item = TypeVar("_Item")


class Move(NamedTuple):
    """Bytes `[start, end)` of an object, one unit, to fetch from whoever of `holders` has them."""

    start: int
    end: int
    holders: tuple[Member, ...]


class Keeping(NamedTuple):
    """Bytes `[start, end)` of an object; `copy`: other members own them and this one does not."""

    start: int
    end: int
    copy: bool


def moves_to(placement: Placement, name: str, key: bytes, size: int) -> list[Move]:
    """What the member of that name takes over of an object; nothing when all is settled.

    The holders are those that owned the unit before, those that leave first in the list: they are
    to get rid of it.
    """
    found = []
    for start, end in pieces_of(0, size):
        unit = unit_of(key, start, size)
        if not placement.is_owner(name, unit) or placement.owned_before(name, unit):
            continue
        others = [
            owner
            for owner in placement.owners(unit)
            if owner.name != name and placement.owned_before(owner.name, unit)
        ]
        if holders := (*placement.former_owners(unit), *others):
            found.append(Move(start, end, holders))
    return found


def keeping(placement: Placement, name: str, key: bytes, size: int) -> list[Keeping]:
    """As what the member of that name keeps each unit of an object; neighbours are joined.

    Copies come first: a file of the cache that holds units of both kinds is none.
    """
    found: list[Keeping] = []
    for start, end in pieces_of(0, size):
        copy = not placement.is_owner(name, unit_of(key, start, size))
        if found and found[-1].copy == copy:
            start = found.pop().start
        found.append(Keeping(start, end, copy))
    return sorted(found, key=lambda each: not each.copy)


def by_holder(moves: Sequence[Move], most: int) -> list[tuple[Member, list[int]]]:
    """Whom to ask about which moves (their numbers), at most so many in one question."""
    asked: dict[Member, list[int]] = {}
    for number, move in enumerate(moves):
        for holder in move.holders:
            asked.setdefault(holder, []).append(number)
    return [
        (holder, numbers[at : at + most])
        for holder, numbers in asked.items()
        for at in range(0, len(numbers), most)
    ]


def hottest_first(items: Iterable[tuple[_Item, Presence]]) -> list[tuple[_Item, Presence]]:
    """Those of which something is there, the one used last first: of what does not fit any more,
    the coldest is left behind.
    """
    there = [(item, presence) for item, presence in items if presence.present_bytes]
    return sorted(there, key=lambda each: -each[1].last_use)
