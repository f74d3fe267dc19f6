"""A million objects: metadata load against listing alone, then disk, memory and `find`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.pairs import Figure, Outcome, compare, measure, spread
from benchmarks.single.bench import MIB, Bench
from benchmarks.single.obstore_alone import list_objects
from benchmarks.single.processes import memory_by_role, missing_roles
from benchmarks.single.seaweed_metadata import fill_bucket


def _disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def _find(directory: Path) -> tuple[int, float]:
    begin = time.perf_counter()
    done = subprocess.run(["find", str(directory)], capture_output=True, timeout=900, check=True)
    return done.stdout.count(b"\n"), time.perf_counter() - begin


def _after_load(bench: Bench, file: Path, count: int) -> tuple[list[Figure], dict[str, Any]]:
    rates: list[float] = []
    with bench.machine() as machine:
        machine.fluidpy("load", "-f", str(file), "--metadata")
        disk = _disk_bytes(machine.home / "cache" / "catalogs") / count
        memory: dict[str, float] = {}
        for _ in range(1 if bench.smoke else 5):
            with machine.mounted(file) as directory:
                entries, seconds = _find(directory)
                if entries < count:
                    raise RuntimeError(f"find saw {entries} of {count}")
                rates.append(entries / seconds)
                found = memory_by_role(machine.processes())
                if missing := missing_roles(found):
                    raise RuntimeError(f"of the mount's processes there was no {missing}")
                memory = {name: size / MIB for name, size in found.items()}
    both = memory["worker"] + memory["server"]
    figures = [
        Figure("disk a file", "B", spread([disk]), at_most=250),
        Figure("find through the mount, first time", "entries/s", spread(rates), at_least=50_000),
        Figure("private memory, worker and server", "MiB", spread([both]), at_most=100),
    ]
    return figures, {"private_mebibytes": memory}


def run(bench: Bench) -> Outcome:
    """One comparison in keys a second, and the three facts about what is left behind."""
    folders, files = (10, 100) if bench.smoke else (1000, 1000)
    count = folders * files
    bench.talk(f"making {count:,} objects")
    fill_bucket(bench.server, "million", folders, files, bench.directory)
    file = bench.dataset_file("million", "million")
    store = bench.server.store("million")

    def ours() -> float:
        with bench.machine() as machine:
            begin = time.perf_counter()
            machine.fluidpy("load", "-f", str(file), "--metadata")
            return count / (time.perf_counter() - begin)

    pairs = measure(bench.pairs, lambda: list_objects(store), ours, bench.talk)
    comparison = compare("metadata load", "keys/s", *pairs, at_least=0.5)
    return Outcome([comparison], *_after_load(bench, file, count))
