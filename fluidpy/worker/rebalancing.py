"""What this worker takes over from others when workers of its pool come and go.

With each membership it looks, Dataset by Dataset, for units that it owns now and did not own
before, and fetches them from those who did, while they go on serving. Nothing of it is noted: a
worker that is started again looks again, and skips what it has. Readers come first: their parts
pass those of a move, which keeps to `move_bytes_per_second`. Nothing that is owned here leaves the
store for what is moved.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluidpy.worker.dataset_move import DatasetMove, MoveCounts
from fluidpy.worker.move_pace import MovePace

if TYPE_CHECKING:
    from fluidpy.cluster.membership import Member, Membership
    from fluidpy.cluster.placement import Placement
    from fluidpy.worker.datasets import Datasets
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.pool import Pool

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Placed:
    """Where a Dataset lies, as far as it decides on owners, and what is done about it."""

    facts: object
    moving: bool = False
    """Whether others wait until this is done."""
    counts: MoveCounts = field(default_factory=MoveCounts)
    task: asyncio.Task[None] | None = None


class Rebalancing:
    """All Datasets of one worker; follows its pool until `close`."""

    def __init__(
        self, pool: Pool, datasets: Datasets, fills: FillTable, bytes_per_second: int
    ) -> None:
        """Does nothing before the pool has a membership; `bytes_per_second` 0 is no bound."""
        self._pace = MovePace(bytes_per_second, fills.clock)
        self._pool = pool
        self._datasets = datasets
        self._fills = fills
        self._placed: dict[str, _Placed] = {}
        self._generation = 0
        pool.on_change.append(self.use)

    def use(self, membership: Membership) -> None:
        """Begins what this membership asks for; what it asks for as before goes on."""
        self._generation = membership.generation
        for key in set(self._placed) - set(membership.datasets):
            self._end(self._placed.pop(key))
        for key in membership.datasets:
            facts = _facts(membership, key, self._pool.name)
            before = self._placed.get(key)
            if before is not None and before.facts == facts:
                continue
            if before is not None:
                self._end(before)
            self._placed[key] = self._begun(key, facts, before is not None)

    def _begun(self, key: str, facts: object, known: bool) -> _Placed:
        """Begins the move of a Dataset, where it leads here; `known`: it lay elsewhere before."""
        placement = self._pool.placement(key)
        if placement is None:
            return _Placed(facts)
        serving = any(m.name == self._pool.name and not m.draining for m in placement.members)
        placed = _Placed(facts, moving=placement.moving and serving)
        # Once all is settled, what others own by now is noted as a copy of theirs. A Dataset that
        # is new here has nothing that could have become somebody else's.
        if placed.moving or (known and not placement.moving):
            self._begin(key, placement, placed)
        return placed

    def _begin(self, key: str, placement: Placement, placed: _Placed) -> None:
        move = DatasetMove(
            key, placement, self._pool, self._datasets, self._fills, placed.counts, self._pace
        )
        placed.task = asyncio.get_running_loop().create_task(move.run())
        placed.task.add_done_callback(_ended)

    def _end(self, placed: _Placed) -> None:
        if placed.task is not None:
            placed.task.cancel()

    def to_wire(self) -> dict[str, Any]:
        """How far it is, for `status`: `done` once nothing more moves here in this generation."""
        moves = list(self._placed.values())
        return {
            "generation": self._generation,
            "done": not any(
                placed.moving and placed.task is not None and not placed.task.done()
                for placed in moves
            ),
            "moved_bytes": sum(placed.counts.moved_bytes for placed in moves),
            "source_bytes": sum(placed.counts.source_bytes for placed in moves),
            "moved_objects": sum(placed.counts.moved_objects for placed in moves),
            "left_objects": sum(placed.counts.left_objects for placed in moves),
        }

    async def close(self) -> None:
        """Ends all moves; what has come stays."""
        tasks = [placed.task for placed in self._placed.values() if placed.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _facts(membership: Membership, key: str, name: str) -> object:
    """All that decides on the owners of a Dataset; None where this worker has no part in it."""
    placed = membership.datasets[key]
    names = {*placed.members, *placed.previous}
    if name not in names:
        return None
    weights = [_weight(member) for member in membership.members if member.name in names]
    return placed.members, placed.previous, placed.replicas, placed.previous_replicas, weights


def _weight(member: Member) -> tuple[object, ...]:
    return member.name, member.machine, member.zone, member.capacity_bytes, member.draining


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("taking over from other workers failed", exc_info=error)
