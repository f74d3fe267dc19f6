"""Eight readers on four workers read a data set twice: how often does its source give each byte?"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.cluster.bed import worker_pool
from benchmarks.cluster.data_set import FULL, QUICK, fill, write_sums
from benchmarks.cluster.limited_source import limited_source
from benchmarks.cluster.reading import reading
from benchmarks.pairs import Figure, Outcome, spread

WORKERS, READERS, PASSES = 4, 8, 2
MOST_PERCENT = 102.0
"""Bytes that the source gave, in per cent of those of the data set."""

_COUNTERS = ("bytes_from_source", "bytes_from_owner", "bytes_from_cache", "peer_reads",
             "peers_failed", "peers_slow", "source_after_peers", "hedged_reads")  # fmt: skip


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """One run: both passes of all readers."""
    with limited_source() as source:
        size = fill(source, QUICK if quick else FULL)
        with worker_pool(source, WORKERS) as pool:
            write_sums(source, pool.directory / "sums.json")
            talk(f"{READERS} readers on {WORKERS} workers, {size / 1e6:,.0f} MB, {PASSES} passes")
            began = time.monotonic()
            with reading(pool, READERS, PASSES) as readers:
                readers.wait()
            seconds = time.monotonic() - began
            counters = {name: pool.counted(name) for name in _COUNTERS}
        percent = 100 * source.bytes_given / size
    figures = [
        Figure("source bytes of the data set's", "%", spread([percent]), at_most=MOST_PERCENT),
        Figure("files with errors or wrong bytes", "", spread([readers.bad]), at_most=0),
    ]
    for number in range(PASSES):
        slowest = max(reader[number]["seconds"] for reader in readers.outcomes)
        rate = READERS * size / slowest / 1e6
        figures.append(Figure(f"pass {number + 1}, all readers", "MB/s", spread([rate])))
    facts = {"once_bytes": size, "once_seconds": round(seconds, 2), "once_counters": counters}
    return Outcome(figures=figures, facts=facts)
