"""Eight readers on four workers read a data set twice: how often does its source give each byte?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cluster.bed import WorkerPool, worker_pool
from benchmarks.cluster.data_set import FULL, QUICK, fill, write_sums
from benchmarks.cluster.limited_source import limited_source
from benchmarks.pairs import Figure, Outcome, spread

WORKERS, READERS, PASSES = 4, 8, 2
MOST_PERCENT = 102.0
"""Bytes that the source gave, in per cent of those of the data set."""

LONGEST_SECONDS = 900.0

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
            passes = read_all(pool, PASSES)
            seconds = time.monotonic() - began
            counters = {name: pool.counted(name) for name in _COUNTERS}
        percent = 100 * source.bytes_given / size
    bad = sum(each["errors"] + each["wrong"] for reader in passes for each in reader)
    figures = [
        Figure("source bytes of the data set's", "%", spread([percent]), at_most=MOST_PERCENT),
        Figure("files with errors or wrong bytes", "", spread([bad]), at_most=0),
    ]
    for number in range(PASSES):
        slowest = max(reader[number]["seconds"] for reader in passes)
        rate = READERS * size / slowest / 1e6
        figures.append(Figure(f"pass {number + 1}, all readers", "MB/s", spread([rate])))
    facts = {"once_bytes": size, "once_seconds": round(seconds, 2), "once_counters": counters}
    return Outcome(figures=figures, facts=facts)


def read_all(pool: WorkerPool, passes: int) -> list[list[dict[str, Any]]]:
    """What each reader says of each pass."""
    workers = list(pool.workers)
    readers = [
        pool.start_reader(workers[number % len(workers)], number, passes)
        for number in range(READERS)
    ]
    try:
        for reader in readers:
            reader.wait(LONGEST_SECONDS)  # what it says fits in the pipe
        lines = [reader.stdout.readlines() if reader.stdout else [] for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
            if reader.stdout is not None:
                reader.stdout.close()
    return [[json.loads(line) for line in found] for found in lines]
