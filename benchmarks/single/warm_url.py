"""Warm `fluid://` reads against reading the cache file itself."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from benchmarks.pairs import Comparison, Figure, Outcome, compare, measure, spread
from benchmarks.single.bench import CHUNK, MIB, Bench, Machine


def _read(stream: Any) -> int:
    total = 0
    while data := stream.read(4 * CHUNK):
        total += len(data)
    return total


def _large(bench: Bench) -> Comparison:
    import fsspec

    size = (64 if bench.smoke else 1024) * MIB
    rounds = 1 if bench.smoke else 6
    bench.put_large("warm", "large.bin", size)
    file = bench.dataset_file("warm", "warm")
    plain = bench.directory / "plain.bin"
    with bench.machine() as machine, machine.as_this_process():
        machine.fluidpy("load", "-f", str(file))
        system = fsspec.filesystem("fluid", file=str(file), skip_instance_cache=True)
        plain.write_bytes(system.cat_file("warm/large.bin"))

        def limit() -> float:
            begin = time.perf_counter()
            for _ in range(rounds):
                with plain.open("rb") as stream:
                    _read(stream)
            return rounds * size / (time.perf_counter() - begin) / MIB

        def ours() -> float:
            begin = time.perf_counter()
            for _ in range(rounds):
                with system.open("warm/large.bin", "rb") as stream:
                    if _read(stream) != size:
                        raise RuntimeError("short file")
            return rounds * size / (time.perf_counter() - begin) / MIB

        speeds = measure(bench.pairs, limit, ours, bench.talk)
    plain.unlink()
    return compare("warm fluid://, 1 GiB", "MiB/s", *speeds, at_least=0.9)


def _small(bench: Bench, machine: Machine, file: Path) -> tuple[Comparison, Figure]:
    import fsspec

    count = 200 if bench.smoke else 2000
    names = [f"{index:05d}.jpg" for index in range(count)]
    random.Random(7).shuffle(names)
    plain = bench.directory / "plain"
    machine.fluidpy("load", "-f", str(file))
    system = fsspec.filesystem("fluid", file=str(file), skip_instance_cache=True)

    def limit() -> float:
        begin = time.perf_counter()
        for name in names:
            with open(plain / name, "rb") as stream:
                stream.read()
        return count / (time.perf_counter() - begin)

    def ours() -> float:
        begin = time.perf_counter()
        for name in names:
            with system.open(f"many/{name}", "rb") as stream:
                stream.read()
        return count / (time.perf_counter() - begin)

    limits, mine = measure(bench.pairs, limit, ours, bench.talk)
    added = [(1 / b - 1 / a) * 1e6 for a, b in zip(limits, mine, strict=True)]
    figure = Figure("added to each open and read", "µs", spread(added), at_most=150)
    return compare("warm fluid://, 100 KB files", "files/s", limits, mine), figure


def run(bench: Bench) -> Outcome:
    """The large file as a ratio; small files as microseconds added to each `open` + `read`."""
    large = _large(bench)
    count = 200 if bench.smoke else 2000
    plain = bench.directory / "plain"
    plain.mkdir()
    objects = {f"{index:05d}.jpg": os.urandom(100_000) for index in range(count)}
    for name, data in objects.items():
        (plain / name).write_bytes(data)
    bench.server.put_objects(bench.bucket("many"), objects)
    file = bench.dataset_file("many", "many")
    with bench.machine() as machine, machine.as_this_process():
        small, added = _small(bench, machine, file)
    return Outcome([large, small], [added])
