"""Fluid's twelve `cacheStates`, from what the workers count. Pure.

Formats are Fluid's: sizes like `1.92GiB`, ratios like `12.3%`. Ratios of reads are by bytes that
reached the workers; what the kernel or a client's open file serves is not seen, so they are
estimates, and low ones: the reads not seen are hits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from fluidpy.api.quantity import format_bytes, format_ratio
from fluidpy.control.observed import SourceTotals, TierFacts, WorkerShare, source_totals

CALCULATING: Final = "[Calculating]"
"""What Fluid prints for sizes that are not known yet."""

PEER_BYTES: Final = (
    "bytes_from_owner",
    "bytes_from_replica",
    "bytes_from_former_owner",
)
"""Counters of bytes that one worker read from another."""

READ_COUNTERS: Final = (
    "bytes_from_cache",
    *PEER_BYTES,
    "bytes_fetched_for_peers",
    "bytes_from_source",
    "loaded_bytes",
)
"""All counters that `ReadBytes` is made of."""


@dataclass(frozen=True, slots=True)
class ReadBytes:
    """Bytes of reads by where they came from: the worker's own cache, other workers, the source."""

    local: int = 0
    remote: int = 0
    source: int = 0

    @property
    def total(self) -> int:
        """All bytes read."""
        return self.local + self.remote + self.source

    @classmethod
    def of(cls, counters: Iterable[Mapping[str, int]]) -> Self:
        """The sum over the counters of several workers.

        What a load fetched nobody has read yet: it is no miss. What a worker fetched because
        another one read it comes from the source, although that one had it from the worker.
        """
        local = remote = source = 0
        for one in counters:
            local += one.get("bytes_from_cache", 0)
            remote += sum(one.get(name, 0) for name in PEER_BYTES)
            remote -= one.get("bytes_fetched_for_peers", 0)
            source += max(0, one.get("bytes_from_source", 0) - one.get("loaded_bytes", 0))
        return cls(local, max(0, remote), source)


def cache_states(
    shares: Sequence[WorkerShare], lately: ReadBytes | None = None, replicas: int = 1
) -> dict[str, str]:
    """The states of a Dataset cached by these workers; `lately` is what was read of late.

    With `replicas` the cached bytes count each of them, as they take room for each; the percentage
    is of all of them, 100 at most, and empty until the source is known as a whole, as in Fluid.
    """
    cached = sum(share.cached_bytes for share in shares)
    read = ReadBytes.of(share.counters for share in shares)
    lately = lately if lately is not None and lately.total else read
    tiers = [tier for share in shares for tier in share.tiers]
    not_kept = sum(share.counters.get("bytes_not_kept", 0) for share in shares)
    return {
        "cached": format_bytes(cached),
        "cachedPercentage": _percentage(cached, source_totals(shares), replicas),
        "cacheCapacity": format_bytes(sum(tier.quota_bytes for tier in tiers)),
        "cacheHitRatio": format_ratio(read.local + read.remote, read.total),
        "localHitRatio": format_ratio(read.local, read.total),
        "remoteHitRatio": format_ratio(read.remote, read.total),
        "cacheThroughputRatio": format_ratio(lately.local + lately.remote, lately.total),
        "localThroughputRatio": format_ratio(lately.local, lately.total),
        "remoteThroughputRatio": format_ratio(lately.remote, lately.total),
        "lowWaterMark": _mark(tiers, "low"),
        "highWaterMark": _mark(tiers, "high"),
        "nonCacheable": format_bytes(not_kept),
    }


def _percentage(cached: int, totals: SourceTotals | None, replicas: int) -> str:
    if totals is None or not totals.complete:
        return ""
    return format_ratio(cached, totals.bytes * replicas) if totals.bytes else "100.0%"


def _mark(tiers: Sequence[TierFacts], name: str) -> str:
    """The mark of the last tiers, from which files leave; the lowest if workers differ."""
    marks = [getattr(tier, name) for tier in tiers]
    return f"{min(marks) * 100:.1f}%" if marks else ""
