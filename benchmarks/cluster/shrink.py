"""A worker that was named is drained while eight readers read: does the next epoch find all?"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cluster.elastic import change_members, filled_pool, outcome
from benchmarks.pairs import Figure, Outcome, spread

WORKERS = 5
GOING = "w2"
LEAST_HIT_PERCENT = 99.0
"""Bytes of the data set that the pool still has, in per cent; the source gave the others again."""


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """One drain, and the epoch after it on the four that stay."""
    with filled_pool(WORKERS, talk, quick=quick) as filled:
        change = change_members(filled, talk, going=GOING)
    percent = 100 * (1 - change.source / filled.size)
    hits = Figure("hit ratio of the next epoch", "%", spread([percent]), at_least=LEAST_HIT_PERCENT)
    return outcome(filled, change, "shrink", hits)
