"""What workers say of a Dataset, as values for the reconcilers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fluidpy.client.protocol import Message


@dataclass(frozen=True, slots=True)
class SourceTotals:
    """Files and bytes that a catalog knows; `complete` when every folder has been listed."""

    files: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class TierFacts:
    """One tier that a Dataset uses on one worker, in bytes; `low` and `high` are shares."""

    directory: str
    quota_bytes: int
    used_bytes: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """One Dataset on one worker: what is cached of it there, and what was read.

    `ready` is False for a worker that does not answer; the rest is then what was seen last, or
    nothing. `cached_bytes` counts this Dataset only, `tiers` are shared by all that use them.
    """

    member: str
    ready: bool
    cached_bytes: int = 0
    tiers: tuple[TierFacts, ...] = ()
    totals: SourceTotals | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the worker has run; its counters began at zero then."""

    @property
    def capacity_bytes(self) -> int:
        """Bytes that the Dataset's tiers may hold on this worker."""
        return sum(tier.quota_bytes for tier in self.tiers)

    @classmethod
    def from_status(cls, member: str, answer: Message, key: str) -> Self:
        """The share of the Dataset `namespace/name` in a worker's `status` answer.

        A worker that has not opened the Dataset yet is not ready.
        """
        row = next((row for row in answer.get("datasets", ()) if row.get("key") == key), None)
        if row is None:
            return cls(member, ready=False)
        return cls(
            member,
            ready=True,
            cached_bytes=int(row.get("cached_bytes", 0)),
            tiers=tuple(_tier(tier) for tier in row.get("tiers", ())),
            totals=_totals(row.get("totals")),
            counters=_numbers(row.get("counters", {})),
            seconds=float(answer.get("seconds", 0.0)),
        )


def _tier(row: Mapping[str, Any]) -> TierFacts:
    return TierFacts(
        str(row["directory"]),
        int(row["quota_bytes"]),
        int(row["used_bytes"]),
        float(row.get("low", 0.0)),
        float(row.get("high", 1.0)),
    )


def _totals(row: Mapping[str, Any] | None) -> SourceTotals | None:
    if row is None:
        return None
    return SourceTotals(int(row["files"]), int(row["bytes"]), bool(row["complete"]))


def _numbers(counters: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in counters.items() if isinstance(value, int)}


def source_totals(shares: Iterable[WorkerShare]) -> SourceTotals | None:
    """What is known of the source: of the catalog that is complete, or else knows most."""
    known = [share.totals for share in shares if share.totals is not None]
    return max(known, key=lambda one: (one.complete, one.files, one.bytes), default=None)
