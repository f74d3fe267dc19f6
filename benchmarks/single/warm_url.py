"""Warm `fluid://` reads against reading the cache file itself."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from benchmarks.pairs import (
    LEAST_SECONDS,
    Comparison,
    Figure,
    Outcome,
    compare,
    measure,
    speed_of,
    spread,
)
from benchmarks.single.bench import CHUNK, MIB, Bench, Machine


def _read(stream: Any) -> int:
    total = 0
    while data := stream.read(4 * CHUNK):
        total += len(data)
    return total


def _least_seconds(bench: Bench) -> float:
    return 0.0 if bench.smoke else LEAST_SECONDS


def _large(bench: Bench) -> Comparison:
    import fsspec

    size = (64 if bench.smoke else 1024) * MIB
    bench.put_large("warm", "large.bin", size)
    file = bench.dataset_file("warm", "warm")
    plain = bench.directory / "plain.bin"
    with bench.machine() as machine, machine.as_this_process():
        machine.fluidpy("load", "-f", str(file))
        system = fsspec.filesystem("fluid", file=str(file), skip_instance_cache=True)
        plain.write_bytes(system.cat_file("warm/large.bin"))

        def read_plain() -> float:
            with plain.open("rb") as stream:
                return _read(stream) / MIB

        def read_url() -> float:
            with system.open("warm/large.bin", "rb") as stream:
                if _read(stream) != size:
                    raise RuntimeError("short file")
            return size / MIB

        speeds = measure(
            bench.pairs,
            lambda: speed_of(read_plain, _least_seconds(bench)),
            lambda: speed_of(read_url, _least_seconds(bench)),
            bench.talk,
        )
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

    def read_plain() -> float:
        for name in names:
            with open(plain / name, "rb") as stream:
                stream.read()
        return count

    def read_url() -> float:
        for name in names:
            with system.open(f"many/{name}", "rb") as stream:
                stream.read()
        return count

    limits, mine = measure(
        bench.pairs,
        lambda: speed_of(read_plain, _least_seconds(bench)),
        lambda: speed_of(read_url, _least_seconds(bench)),
        bench.talk,
    )
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
