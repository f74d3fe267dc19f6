"""Round by round, each system in turn; what comes out of it as values."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.mount.promises import NOTHING, BestPeer, Promise, Verdict, best_peer, judge
from benchmarks.mount.reading import Sample
from benchmarks.pairs import Comparison, Spread, compare, spread

Take = Callable[[int], Sample]
"""One sample of one system in the round of that number."""


@dataclass
class Series:
    """Samples of one system in the order of the rounds, and why they end early, if they do."""

    system: str
    samples: list[Sample] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """One system in one scenario; `comparison` is None when it failed before its first sample.

    `added_microseconds` is what one unit takes longer than on the plain directory; `cpu_ratio` the
    processor time of reader and system a unit ÷ that of the plain directory. `best_peer` is
    there for fluidpy where a peer took part, `failed_peers` where it promised to be ahead of them.
    """

    system: str
    comparison: Comparison | None
    added_microseconds: Spread | None
    cpu_ratio: float | None
    source_requests: int
    disk_bytes: int
    unfinished: int
    failure: str
    samples: tuple[Sample, ...]
    best_peer: BestPeer | None = None
    failed_peers: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether this is fluidpy, in whatever mode."""
        return _is_ours(self.system)

    @property
    def missed(self) -> tuple[Verdict, ...]:
        """What was promised and is not there."""
        return tuple(verdict for verdict in self.verdicts if verdict.reached is False)

    def to_document(self) -> dict[str, Any]:
        """Plain values for the JSON that is kept."""
        return {
            "system": self.system,
            "comparison": self.comparison and self.comparison.to_document(),
            "added_microseconds": self.added_microseconds and self.added_microseconds.__dict__,
            "cpu_ratio": self.cpu_ratio,
            "source_requests": self.source_requests,
            "disk_bytes": self.disk_bytes,
            "unfinished_samples": self.unfinished,
            "failure": self.failure,
            "best_peer": self.best_peer and self.best_peer.__dict__,
            "failed_peers": list(self.failed_peers),
            "promises": [verdict.to_document() for verdict in self.verdicts],
            "samples": [sample.to_document() for sample in self.samples],
        }


@dataclass(frozen=True)
class Outcome:
    """One scenario: its name, what it is in words, the unit of a speed, a row for each system."""

    name: str
    title: str
    unit: str
    rows: tuple[Row, ...]

    def to_document(self) -> dict[str, Any]:
        """Plain values for the JSON that is kept."""
        rows = [row.to_document() for row in self.rows]
        return {"name": self.name, "title": self.title, "unit": self.unit, "systems": rows}


def take_rounds(
    takes: Mapping[str, Take],
    rounds: int,
    talk: Callable[[str], None],
    *,
    seconds_of: Mapping[str, float] | None = None,
    end_unfinished: bool = False,
) -> list[Series]:
    """Samples of `rounds` rounds, the systems in turn in each.

    A system that fails has its message kept and takes part no more; so does, with `end_unfinished`,
    one that ran into its limit. `seconds_of` are systems that take part in another round only if
    their samples took less than that so far.
    """
    series = {name: Series(name) for name in takes}
    for number in range(rounds):
        said = []
        for name, take in takes.items():
            mine = series[name]
            used = sum(sample.seconds for sample in mine.samples)
            if mine.failure or used > (seconds_of or {}).get(name, float("inf")):
                continue
            if end_unfinished and mine.samples and not mine.samples[-1].finished:
                continue
            try:
                sample = take(number)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                mine.failure = str(error) or type(error).__name__
                talk(f"{name} failed: {mine.failure}")
                continue
            mine.samples.append(sample)
            said.append(f"{name} {sample.seconds:.2f} s")
        talk(f"round {number + 1}/{rounds}: {', '.join(said)}")
    return list(series.values())


def outcome(
    name: str,
    title: str,
    unit: str,
    scale: float,
    series: Sequence[Series],
    promises: Mapping[str, Promise],
) -> Outcome:
    """What the samples come down to; the first series is that of the plain directory.

    Speeds are amounts a second divided by `scale`. A system is compared with the plain directory
    round by round, as far as both have samples. `promises` are by system; those about peers are
    judged on the peers that took part, and those that failed are named.
    """
    plain = series[0]
    if not plain.samples:
        raise RuntimeError(f"{name}: the plain directory failed: {plain.failure}")
    peers = [mine for mine in series[1:] if not _is_ours(mine.system)]
    rows = []
    for mine in series:
        promise = promises.get(mine.system, NOTHING)
        row = _row(name, unit, scale, plain, mine, promise.at_least)
        rows.append(_judged(row, promise, peers) if row.is_ours else row)
    return Outcome(name, title, unit, tuple(rows))


def _is_ours(system: str) -> bool:
    return system.startswith("fluidpy")


def _judged(row: Row, promise: Promise, peers: Sequence[Series]) -> Row:
    if row.comparison is None or row.added_microseconds is None:
        return row
    best = best_peer(
        [sample.speed for sample in row.samples],
        {peer.system: [sample.speed for sample in peer.samples] for peer in peers},
    )
    failed = [peer.system for peer in peers if peer.failure] if promise.on_peers else []
    verdicts = judge(promise, row.comparison.ratio, row.added_microseconds.median, best)
    return replace(row, best_peer=best, failed_peers=tuple(failed), verdicts=verdicts)


def _row(
    name: str, unit: str, scale: float, plain: Series, mine: Series, at_least: float | None
) -> Row:
    row = Row(
        mine.system,
        None,
        None,
        None,
        sum(sample.source_requests or 0 for sample in mine.samples),
        sum(sample.disk_bytes or 0 for sample in mine.samples),
        sum(not sample.finished for sample in mine.samples),
        mine.failure,
        tuple(mine.samples),
    )
    count = min(len(plain.samples), len(mine.samples))
    if count == 0:
        return row
    limits, ours = plain.samples[:count], mine.samples[:count]
    comparison = compare(
        f"{name}, {mine.system}",
        unit,
        [sample.speed / scale for sample in limits],
        [sample.speed / scale for sample in ours],
        at_least=at_least,
    )
    pairs = zip(limits, ours, strict=True)
    added = spread([(1 / our.speed - 1 / limit.speed) * 1e6 for limit, our in pairs])
    cpu = _median_cpu(ours) / _median_cpu(limits) if _median_cpu(limits) else None
    return replace(row, comparison=comparison, added_microseconds=added, cpu_ratio=cpu)


def _median_cpu(samples: Sequence[Sample]) -> float:
    """Median processor seconds of reader and system for one unit."""
    return statistics.median(
        (s.reader_user_seconds + s.reader_system_seconds + s.system_cpu_seconds) / s.amount
        for s in samples
    )
