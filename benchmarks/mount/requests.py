"""`python -m benchmarks requests`: FUSE requests and processor time of stated jobs, by opcode.

Jobs: `find` of all names, a `stat` of each file in random order, `open` + `read` + `close` of each
small file, one sequential read of the large file; each with the kernel's caches empty and again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import facts, steady_memory
from benchmarks.mount.names import Names
from benchmarks.mount.programs import DEBIAN, PYPI, install
from benchmarks.mount.reading import Drop, cpu_seconds, drop
from benchmarks.mount.request_trace import Requests, recorded, tracing
from benchmarks.mount.running import Running, add_choice, choose, end_in_order
from benchmarks.mount.system import Mounted
from benchmarks.mount.tree import FULL, QUICK, Tree, make_tree
from benchmarks.report import RESULTS
from benchmarks.single.bench import MIB, bench, read_file

Job = Callable[[Path], int]
"""Does a job below a directory; answers how many units (files, MiB) it did."""


def _jobs(tree: Tree) -> dict[str, tuple[str, Job]]:
    """What a job is called: the unit of its result and what it does."""
    small = list(tree.groups["small"])
    random.Random(11).shuffle(small)

    def find(root: Path) -> int:
        return sum(1 + len(files) for _, _, files in os.walk(root))

    def stat(root: Path) -> int:
        for path in small:
            os.stat(root / path)
        return len(small)

    def read_small(root: Path) -> int:
        for path in small:
            read_file(root / path)
        return len(small)

    def read_large(root: Path) -> int:
        return read_file(root / tree.groups["large"][0]) // MIB

    return {
        "find": ("name", find),
        "stat": ("file", stat),
        "read of small files": ("file", read_small),
        "sequential read": ("MiB", read_large),
    }


def _measure(instance: Path, mounted: Mounted, job: Job) -> dict[str, Any]:
    pids = mounted.pids()
    before, own, begin = cpu_seconds(pids), _own_seconds(), time.perf_counter()
    with recorded(instance, mounted.directory) as recording:
        units = job(mounted.directory)
        seconds = time.perf_counter() - begin
        reader = _own_seconds() - own
    system = cpu_seconds(pids) - before
    return {
        "units": units,
        "seconds": seconds,
        "system_cpu_microseconds_a_unit": system / units * 1e6,
        "reader_cpu_microseconds_a_unit": reader / units * 1e6,
        "requests": {name: _document(found, system) for name, found in recording.requests.items()},
    }


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _document(found: Requests, system_seconds: float) -> dict[str, float]:
    """The system's processor time is shared out by the time that each kind of request took."""
    return {
        "count": found.count,
        "median_microseconds": found.median_microseconds,
        "cpu_microseconds_a_request": system_seconds * found.share / found.count * 1e6,
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A block a job, a line a system."""
    blocks = []
    for job, systems in results.items():
        width = max(len(name) for name in systems)
        lines = [job]
        for name, found in systems.items():
            kinds = ", ".join(
                f"{opcode} {one['count']:,.0f} × {one['cpu_microseconds_a_request']:.0f}"
                for opcode, one in found["requests"].items()
            )
            total = sum(one["count"] for one in found["requests"].values())
            cpu = found["system_cpu_microseconds_a_unit"]
            lines.append(
                f"  {name.ljust(width)}  {total / found['units']:6.3f} requests  "
                f"{cpu:7.1f} µs CPU a {found['unit']}  {kinds}"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def main(arguments: Sequence[str]) -> int:
    """Counts, prints a table and keeps `results/requests.json`; 1 when a system did not start."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks requests", description=__doc__)
    add_choice(parser)
    parser.add_argument("--quick", "--smoke", action="store_true", help="few files; nothing kept")
    parser.add_argument("--results", type=Path, help="where results are kept")
    asked = parser.parse_args(arguments)
    end_in_order()
    results: dict[str, dict[str, Any]] = {}
    with bench(1, asked.quick) as prepared, steady_memory(1), tracing() as instance:
        if asked.peers:
            install([*PYPI, *DEBIAN], prepared.talk)
        machine, running = facts(prepared.directory / "machines"), Running(prepared)
        tree = make_tree(prepared, "training", QUICK if asked.quick else FULL)
        chosen = choose(asked.mode, asked.peers, Names(1, 1))[1:]
        with running.mounted(tree, chosen) as (mounted, failures):
            for name, (unit, job) in _jobs(tree).items():
                for system, found in mounted.items():
                    drop(Drop.PAGES_NAMES_INODES)
                    for turn in ("first", "again"):
                        one = {"unit": unit, **_measure(instance, found, job)}
                        results.setdefault(f"{name}, {turn}", {})[system] = one
    print(table(results))
    if asked.results or not asked.quick:
        directory: Path = asked.results or RESULTS
        directory.mkdir(parents=True, exist_ok=True)
        document = {"machine": machine, "systems": running.known, "jobs": results}
        path = directory / "requests.json"
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        print(f"kept in {path}")
    return 1 if failures else 0
