"""A worker is killed every two seconds for a minute while eight readers read: who notices?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from benchmarks.cluster.bed import PoolWorker, WorkerPool
from benchmarks.cluster.elastic import filled_pool
from benchmarks.cluster.reading import reading
from benchmarks.pairs import Figure, Outcome, spread

WORKERS = 4
EVERY_SECONDS = 2.0
KILLS, QUICK_KILLS = 30, 2


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """The kills, of workers that are up; each is started again at once."""
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
    """Kills workers that are up; how long each was away, in seconds."""
    chance, due = random.Random(1), time.monotonic()
    with ThreadPoolExecutor(len(pool.workers)) as threads:
        away: dict[str, Future[float]] = {}
        back: list[Future[float]] = []
        for _ in range(kills):
            due = max(due + EVERY_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            while not (up := [n for n in pool.workers if n not in away or away[n].done()]):
                wait(away.values(), return_when=FIRST_COMPLETED)
            name = chance.choice(up)
            pool.workers[name].kill()
            away[name] = threads.submit(_restarted, pool.workers[name])
            back.append(away[name])
        return [each.result() for each in back]


def _restarted(worker: PoolWorker) -> float:
    began = time.monotonic()
    worker.await_up()
    return time.monotonic() - began
