"""Interleaved pairs and what they come down to; pure but for the clock that is passed in."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LEAST_SECONDS = 1.0
"""What a sample takes at least where its work can be done again: shorter ones are mostly noise."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a series of samples."""

    median: float
    lower: float
    upper: float
    samples: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """One figure: `ratio` is ours ÷ limit in speed, so 1.0 is as fast as the limit."""

    name: str
    unit: str
    limit: Spread
    ours: Spread
    ratio: float
    ratio_lower: float
    ratio_upper: float
    at_least: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the figure that was promised is there; None where no ratio was promised."""
        return None if self.at_least is None else self.ratio >= self.at_least

    def to_document(self) -> dict[str, Any]:
        """Plain values for the JSON that is kept."""
        return {**asdict(self), "reached": self.reached}


@dataclass(frozen=True)
class Figure:
    """A value that stands by itself, such as bytes a file, with the bound promised for it."""

    name: str
    unit: str
    value: Spread
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the value keeps to its bounds; None where none was promised."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value.median <= self.at_most) and (
            self.at_least is None or self.value.median >= self.at_least
        )

    def to_document(self) -> dict[str, Any]:
        """Plain values for the JSON that is kept."""
        return {**asdict(self), "reached": self.reached}


@dataclass(frozen=True)
class Outcome:
    """All that one benchmark found; `facts` are for the record, without a bound."""

    comparisons: Sequence[Comparison] = ()
    figures: Sequence[Figure] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        """Whether anything that was promised is not there."""
        verdicts = [item.reached for item in self.comparisons]
        verdicts += [item.reached for item in self.figures]
        return False in verdicts


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles (inclusive method) of at least one sample."""
    if len(samples) < 2:
        return Spread(samples[0], samples[0], samples[0], tuple(samples))
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, lower, upper, tuple(samples))


def compare(
    name: str,
    unit: str,
    limit: Sequence[float],
    ours: Sequence[float],
    *,
    at_least: float | None = None,
) -> Comparison:
    """The comparison of two series of speeds (higher is better), pair by pair in order.

    The ratio is of the medians; its quartiles are those of the ratios of the pairs.
    """
    pairs = spread([mine / best for best, mine in zip(limit, ours, strict=True)])
    limit_spread, ours_spread = spread(limit), spread(ours)
    return Comparison(
        name,
        unit,
        limit_spread,
        ours_spread,
        ours_spread.median / limit_spread.median,
        pairs.lower,
        pairs.upper,
        at_least,
    )


def speed_of(
    work: Callable[[], float],
    least_seconds: float = LEAST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """One sample: what `work` says it did, a second; done again until `least_seconds` passed."""
    begin, done = clock(), 0.0
    while True:
        done += work()
        if (seconds := clock() - begin) >= least_seconds:
            return done / seconds


def measure(
    pairs: int, limit: Callable[[], float], ours: Callable[[], float], talk: Callable[[str], None]
) -> tuple[list[float], list[float]]:
    """Speeds of `pairs` interleaved pairs after an untimed one; each callable answers one speed."""
    limit()
    ours()
    limit_speeds: list[float] = []
    our_speeds: list[float] = []
    for index in range(pairs):
        limit_speeds.append(limit())
        our_speeds.append(ours())
        talk(f"pair {index + 1}/{pairs}: limit {limit_speeds[-1]:,.1f}, ours {our_speeds[-1]:,.1f}")
    return limit_speeds, our_speeds
