"""`load` of 20,000 objects of 100 KB against obstore's GETs alone."""

from __future__ import annotations

import os
import time

from benchmarks.pairs import Outcome, compare, measure
from benchmarks.single.bench import Bench
from benchmarks.single.obstore_alone import CONCURRENCIES, get_objects


def run(bench: Bench) -> Outcome:
    """One comparison in objects a second; the folder's metadata is known in both cases."""
    count, size = (500 if bench.smoke else 20_000), 100_000
    keys = [f"class_{index % 100:03d}/image_{index:06d}.jpg" for index in range(count)]
    data = os.urandom(size)
    bench.talk(f"putting {count} objects")
    bench.server.put_objects(bench.bucket("small"), dict.fromkeys(keys, data))
    store = bench.server.store("small")
    file = bench.dataset_file("small", "small")
    speeds = {c: get_objects(store, keys[: count // 4], c) for c in CONCURRENCIES}
    best = max(speeds, key=lambda concurrency: speeds[concurrency])
    bench.talk(f"obstore alone is best with {best} requests at once")

    def ours() -> float:
        with bench.machine() as machine:
            machine.fluidpy("load", "-f", str(file), "--metadata")
            begin = time.perf_counter()
            machine.fluidpy("load", "-f", str(file))
            return count / (time.perf_counter() - begin)

    pairs = measure(bench.pairs, lambda: get_objects(store, keys, best), ours, bench.talk)
    return Outcome([compare("load, 100 KB objects", "objects/s", *pairs, at_least=0.8)])
