"""A fifth worker comes while eight readers read: how much moves, and what the source gives."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cluster.elastic import change_members, filled_pool, outcome
from benchmarks.pairs import Figure, Outcome, spread

WORKERS = 4
MOST_MOVED = 1.1
"""Bytes that moved, by the least that has to."""

MOST_SOURCE_PERCENT = 1.0
"""Bytes that the source gave again, in per cent of those of the data set."""


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """One change, and the epoch after it on all five."""
    with filled_pool(WORKERS, talk, quick=quick) as filled:
        change = change_members(filled, talk, coming=f"w{WORKERS}")
    percent = 100 * change.source / filled.size
    again = Figure(
        "source bytes again, of the data set's", "%", spread([percent]), at_most=MOST_SOURCE_PERCENT
    )
    return outcome(filled, change, "grow", again, MOST_MOVED)
