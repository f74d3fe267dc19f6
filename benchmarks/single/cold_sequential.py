"""Cold sequential read of 1 GiB from S3, through the mount and through `fluid://`."""

from __future__ import annotations

import time

from benchmarks.pairs import Comparison, compare, measure
from benchmarks.single.bench import CHUNK, MIB, Bench, read_file
from benchmarks.single.obstore_alone import CONCURRENCIES, read_ranges
from fluidpy.settings import load_settings


def _best(bench: Bench, size: int, part: int) -> int:
    store = bench.server.store("large")
    speeds = {c: read_ranges(store, "large.bin", size, part, c) for c in CONCURRENCIES}
    speeds = {c: max(s, read_ranges(store, "large.bin", size, part, c)) for c, s in speeds.items()}
    best = max(speeds, key=lambda concurrency: speeds[concurrency])
    bench.talk(
        f"obstore alone is best with {best} requests at once: {speeds[best] / MIB:,.0f} MiB/s"
    )
    return best


def run(bench: Bench) -> list[Comparison]:
    """Two comparisons in MiB/s, both against the same ranges by obstore alone."""
    size = (64 if bench.smoke else 1024) * MIB
    bench.put_large("large", "large.bin", size)
    file = bench.dataset_file("large", "large")
    part = load_settings({}).part_bytes
    store, best = bench.server.store("large"), _best(bench, size, part)

    def limit() -> float:
        return read_ranges(store, "large.bin", size, part, best) / MIB

    def by_mount() -> float:
        with bench.machine() as machine, machine.mounted(file) as directory:
            begin = time.perf_counter()
            if read_file(directory / "large.bin") != size:
                raise RuntimeError("short file")
            return size / (time.perf_counter() - begin) / MIB

    def by_url() -> float:
        import fsspec

        with bench.machine() as machine, machine.as_this_process():
            system = fsspec.filesystem("fluid", file=str(file), skip_instance_cache=True)
            system.info("large/large.bin")
            begin, total = time.perf_counter(), 0
            with system.open("large/large.bin", "rb") as stream:
                while data := stream.read(4 * CHUNK):
                    total += len(data)
            if total != size:
                raise RuntimeError("short file")
            return size / (time.perf_counter() - begin) / MIB

    comparisons = []
    for name, ours in (("cold, mount", by_mount), ("cold, fluid://", by_url)):
        bench.talk(name)
        speeds = measure(bench.pairs, limit, ours, bench.talk)
        comparisons.append(compare(name, "MiB/s", *speeds, at_least=0.85))
    return comparisons
