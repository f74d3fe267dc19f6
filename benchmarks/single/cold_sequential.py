"""Cold sequential read of 1 GiB from S3, through the mount and through `fluid://`."""

from __future__ import annotations

import time

from benchmarks.pairs import Comparison, Outcome, compare, measure
from benchmarks.single.bench import MIB, Bench, read_file, read_stream
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


def _pairs(bench: Bench, where: str) -> list[Comparison]:
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
            begin = time.perf_counter()
            with system.open("large/large.bin", "rb") as stream:
                if read_stream(stream) != size:
                    raise RuntimeError("short file")
            return size / (time.perf_counter() - begin) / MIB

    comparisons = []
    for name, ours in ((f"cold, mount, {where}", by_mount), (f"cold, fluid://, {where}", by_url)):
        bench.talk(name)
        speeds = measure(bench.pairs, limit, ours, bench.talk)
        comparisons.append(compare(name, "MiB/s", *speeds, at_least=0.85))
    return comparisons


def run(bench: Bench) -> Outcome:
    """Mount and URL in MiB/s, each against the same ranges by obstore alone.

    Twice: the source behind a link of 4 Gbit/s, and on loopback, where source, limit and ours share
    the cores and every copy of the data shows in the ratio.
    """
    comparisons = []
    with bench.behind_link() as far:
        if far is not None:
            comparisons += _pairs(far, "4 Gbit/s link")
    return Outcome(comparisons + _pairs(bench, "loopback"))
