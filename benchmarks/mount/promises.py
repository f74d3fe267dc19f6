"""What a system promises in a scenario, and whether it was kept; values only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Promise:
    """What one system promises in one scenario; what is None or False is not promised.

    `at_least` is a speed ÷ the plain directory's, `at_most_added` microseconds that one unit takes
    longer than there, `times_best_peer` a speed ÷ that of the fastest peer.
    """

    at_least: float | None = None
    at_most_added: float | None = None
    times_best_peer: float | None = None
    ahead_of_peers: bool = False

    @property
    def on_peers(self) -> bool:
        """Whether anything is promised that peers have to take part for."""
        return self.ahead_of_peers or self.times_best_peer is not None


NOTHING = Promise()


@dataclass(frozen=True)
class BestPeer:
    """The fastest peer, and the speed of a system ÷ its speed: medians of the same rounds."""

    name: str
    ratio: float


@dataclass(frozen=True)
class Verdict:
    """One promise in words, in a few letters for a table, and whether it was kept.

    `reached` is None where it could not be judged: no peer took part.
    """

    words: str
    short: str
    reached: bool | None

    def to_document(self) -> dict[str, Any]:
        """Plain values for the JSON that is kept."""
        return {"promise": self.words, "reached": self.reached}


def best_peer(speeds: Sequence[float], peers: Mapping[str, Sequence[float]]) -> BestPeer | None:
    """The peer that leaves the least ratio, over the rounds that both have; None without any."""
    ratios = {}
    for name, theirs in peers.items():
        if count := min(len(speeds), len(theirs)):
            ratios[name] = statistics.median(speeds[:count]) / statistics.median(theirs[:count])
    if not ratios:
        return None
    name = min(ratios, key=ratios.__getitem__)
    return BestPeer(name, ratios[name])


def judge(
    promise: Promise, ratio: float, added_microseconds: float, best: BestPeer | None
) -> tuple[Verdict, ...]:
    """A verdict for each thing that was promised, on medians."""
    verdicts = []
    if (least := promise.at_least) is not None:
        verdicts.append(Verdict(f"{least:g} × plain", f"{least:g}", ratio >= least))
    if (most := promise.at_most_added) is not None:
        reached = added_microseconds <= most
        verdicts.append(Verdict(f"{most:g} µs added at most", f"{most:g} µs", reached))
    if (times := promise.times_best_peer) is not None:
        reached_times = None if best is None else best.ratio >= times
        short = f"{times:g} × peers"
        verdicts.append(Verdict(f"{times:g} × the best peer", short, reached_times))
    if promise.ahead_of_peers:
        ahead = None if best is None else best.ratio > 1
        verdicts.append(Verdict("ahead of every peer", "> peers", ahead))
    return tuple(verdicts)
