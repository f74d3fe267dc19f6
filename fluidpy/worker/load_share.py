"""Which bytes of a Dataset one worker of a pool loads: those that it owns, so that all load all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluidpy.cluster.placement import Placement, pieces_of, unit_of

if TYPE_CHECKING:
    from fluidpy.worker.load_plan import Range


class LoadShare:
    """The ranges of each file of which this worker is among the best `replicas` owners."""

    def __init__(self, placement: Placement, name: str, replicas: int) -> None:
        """`name` is this worker's in the pool."""
        self._placement = placement
        self._name = name
        self._replicas = replicas

    def ranges(self, key: bytes, size: int) -> list[Range]:
        """The ranges of an object to load here; neighbours are joined. An
        empty object has one empty range, where it is loaded."""
        found: list[Range] = []
        for start, end in pieces_of(0, size) if size else [(0, 0)]:
            best = self._placement.ranked(unit_of(key, start, size))[: self._replicas]
            if all(member.name != self._name for member in best):
                continue
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, end))
        return found
