"""A worker is killed every two seconds for a minute while eight readers read: who notices?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from benchmarks.cluster.bed import WorkerPool
from benchmarks.cluster.elastic import filled_pool
from benchmarks.cluster.reading import reading
from benchmarks.pairs import Figure, Outcome, spread

WORKERS = 4
EVERY_SECONDS = 2.0
KILLS, QUICK_KILLS = 30, 2


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """The kills, each of another worker than the last one; workers are started again at once."""
    kills = QUICK_KILLS if quick else KILLS
    with filled_pool(WORKERS, talk, quick=quick) as filled:
        given = filled.source.bytes_given
        with reading(filled.pool, filled.readers) as readers:
            talk(f"{filled.readers} readers read, a worker is killed every {EVERY_SECONDS:.0f} s")
            back = _kill(filled.pool, kills)
            readers.end()
        percent = 100 * (filled.source.bytes_given - given) / filled.size
    figures = [
        Figure("files with errors or wrong bytes", "", spread([readers.bad]), at_most=0),
        Figure("slowest read of 4 MiB at most", "s", spread([readers.slowest])),
        Figure("worker back after", "s", spread(back)),
        Figure("source bytes again, of the data set's", "%", spread([percent])),
    ]
    facts = {"kill_kills": kills, "kill_bytes": filled.size, "kill_read_bytes": readers.bytes}
    return Outcome(figures=figures, facts=facts)


def _kill(pool: WorkerPool, kills: int) -> list[float]:
    """Kills workers; how long each was away, in seconds."""
    chance, names, back = random.Random(1), list(pool.workers), list[float]()
    name, due = "", time.monotonic()
    for _ in range(kills):
        due += EVERY_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
        name = chance.choice([each for each in names if each != name])
        worker, began = pool.workers[name], time.monotonic()
        worker.kill()
        worker.await_up()
        back.append(time.monotonic() - began)
    return back
