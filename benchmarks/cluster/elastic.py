"""What `grow` and `shrink` share: a pool that has all of a data set, none of its workers alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.cluster.bed import WorkerPool, worker_pool
from benchmarks.cluster.data_set import QUICK_SPREAD, SPREAD, fill, write_sums
from benchmarks.cluster.least_moves import bytes_that_move
from benchmarks.cluster.limited_source import LimitedSource, limited_source
from benchmarks.cluster.reading import Readers, reading
from benchmarks.pairs import Figure, Outcome, spread

READERS, QUICK_READERS = 8, 2
QUOTA_SHARE = 0.7
"""Of the data set, that a worker may keep: so readers go on asking the others."""


class Filled(NamedTuple):
    """A pool whose workers have what they own, of a data set of `size` bytes."""

    pool: WorkerPool
    source: LimitedSource
    size: int
    readers: int


@contextmanager
def filled_pool(workers: int, talk: Callable[[str], None], *, quick: bool) -> Iterator[Filled]:
    """So many workers that have all of the data set together."""
    with limited_source() as source:
        size = fill(source, QUICK_SPREAD if quick else SPREAD)
        with worker_pool(source, workers, quota_bytes=int(size * QUOTA_SHARE)) as pool:
            write_sums(source, pool.directory / "sums.json")
            talk(f"{workers} workers load {size / 1e6:,.0f} MB, each what it owns")
            for worker in pool.workers.values():
                worker.load_owned()
            yield Filled(pool, source, size, QUICK_READERS if quick else READERS)


class Change(NamedTuple):
    """What one change of the members cost."""

    moved: int
    """Bytes that the new owners got, of those that had them before."""
    least: int
    source: int
    """Bytes that the source gave meanwhile, and to the epoch after."""
    seconds: float
    during: Readers
    after: Readers


def change_members(
    filled: Filled, talk: Callable[[str], None], *, coming: str = "", going: str = ""
) -> Change:
    """One worker comes, or one is drained and goes, while readers read; then an epoch of all."""
    pool, source = filled.pool, filled.source
    given, before, names = source.bytes_given, pool.membership, tuple(pool.workers)
    staying = [name for name in names if name != going]
    with reading(pool, filled.readers, workers=staying) as during:
        if coming:
            pool.add(coming)
        talk(
            f"{filled.readers} readers read while {coming or going} {'comes' if coming else 'goes'}"
        )
        began = time.monotonic()
        pool.publish(previous=names, draining=(going,) if going else ())
        pool.await_moved()
        seconds = time.monotonic() - began
        least = bytes_that_move(pool, before, pool.membership)
        moved = _taken_over(pool, [coming] if coming else staying)
        if going:
            pool.remove(going)
        pool.publish()
        during.end()
    talk("the next epoch")
    with reading(pool, filled.readers, passes=1) as after:
        after.wait()
    return Change(moved, least, source.bytes_given - given, seconds, during, after)


_TAKEN = ("bytes_from_former_owner", "bytes_from_owner", "bytes_from_source")


def _taken_over(pool: WorkerPool, names: Sequence[str]) -> int:
    """Bytes that these workers took over: of one that came and had no reader, all that it got.

    On others, readers may ask the owner of before as well where the new one is slow; what they got
    so is not told apart from what had to move.
    """
    statuses = [pool.workers[name].status()["counters"] for name in names]
    counters = _TAKEN if len(names) == 1 else _TAKEN[:1]
    return sum(int(status[counter]) for status in statuses for counter in counters)


def outcome(
    filled: Filled, change: Change, name: str, figure: Figure, most_moved: float | None = None
) -> Outcome:
    """The figures of both scenarios, and the one of this one."""
    bad = change.during.bad + change.after.bad
    slowest = max(change.during.slowest, change.after.slowest)
    figures = [
        Figure(
            "bytes moved by the least possible",
            "",
            spread([change.moved / change.least]),
            at_most=most_moved,
        ),
        figure,
        Figure("files with errors or wrong bytes", "", spread([bad]), at_most=0),
        Figure("slowest read of 4 MiB at most", "s", spread([slowest])),
        Figure("move beside the readers", "MB/s", spread([change.moved / change.seconds / 1e6])),
    ]
    facts = {
        f"{name}_bytes": filled.size,
        f"{name}_moved_bytes": change.moved,
        f"{name}_least_bytes": change.least,
        f"{name}_source_bytes": change.source,
        f"{name}_read_bytes": change.during.bytes + change.after.bytes,
        f"{name}_move_seconds": round(change.seconds, 2),
    }
    return Outcome(figures=figures, facts=facts)
