"""Scenarios in which bytes are read: what is read, with which caches, and what is promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.mount.promises import Promise
from benchmarks.mount.reading import Drop, Sample, disk_bytes_read, drop, read
from benchmarks.mount.rounds import Outcome, Series, outcome, take_rounds
from benchmarks.mount.system import Mounted
from benchmarks.mount.tree import FILE_BYTES, Sizes, Tree
from benchmarks.single.bench import MIB
from fluidpy.aligned_memory import page_aligned

WARM_SECONDS = 0.5
"""A warm job is done again until so much time has passed: a shorter sample is noise."""
WARM_LIMIT_SECONDS = 5.0
"""A slow system's warm sample ends in the middle: its speed is known by then."""
DROPPED_LIMIT_SECONDS = 7.0
WARM_DISK_BYTES = 1024 * 1024
"""A warm sample that read more from disk was not warm: it warmed the pages, and is taken again."""
WARMING_TURNS = 3
PARALLEL_SECONDS = 1.0
RANDOM_READS = 16_384
RANDOM_READS_DROPPED = 4_096
BY_BYTES, NO_OPEN = "fluidpy passthrough", "fluidpy no-open"
PROMISES: Mapping[str, Mapping[str, Promise]] = {
    "sequential-warm": {BY_BYTES: Promise(at_least=0.95, ahead_of_peers=True)},
    "sequential-dropped": {BY_BYTES: Promise(at_least=0.95, ahead_of_peers=True)},
    "random-warm": {BY_BYTES: Promise(at_least=0.9, ahead_of_peers=True)},
    "random-dropped": {BY_BYTES: Promise(at_least=0.9, ahead_of_peers=True)},
    "small-warm": {
        NO_OPEN: Promise(at_least=0.8, times_best_peer=2),
        # An open costs a round trip; trees of small files are read in no-open, unless asked not to.
        BY_BYTES: Promise(at_most_added=80, ahead_of_peers=True),
    },
    "small-dropped": {
        NO_OPEN: Promise(at_least=0.7, ahead_of_peers=True),
        BY_BYTES: Promise(at_least=0.7, ahead_of_peers=True),
    },
    "small-forgotten": {
        NO_OPEN: Promise(ahead_of_peers=True),
        BY_BYTES: Promise(ahead_of_peers=True),
    },
    "parallel-warm": {BY_BYTES: Promise(at_least=0.9)},
}
"""What fluidpy promises, by scenario and system."""


@dataclass(frozen=True)
class Scenario:
    """A job on one group of files; `drops` is what the kernel forgets before each sample.

    `promises` are by system.
    """

    name: str
    title: str
    unit: str
    scale: float
    group: str
    drops: Drop | None
    job: Mapping[str, Any]
    promises: Mapping[str, Promise] = field(default_factory=dict)


def _both(scenario: Scenario, dropped: Mapping[str, Any]) -> tuple[Scenario, ...]:
    """The scenario with pages warm and with pages dropped; the latter does its job once.

    Small files also with names and inodes dropped, which memory that runs short takes later.
    """
    warm_times = {"minimum_seconds": WARM_SECONDS, "maximum_seconds": WARM_LIMIT_SECONDS}
    once = {"minimum_seconds": 0.0, "maximum_seconds": DROPPED_LIMIT_SECONDS}
    warm = replace(
        scenario,
        name=f"{scenario.name}-warm",
        title=f"{scenario.title}, pages warm",
        job={**warm_times, **scenario.job},
        promises=PROMISES.get(f"{scenario.name}-warm", {}),
    )
    cold = replace(
        scenario,
        name=f"{scenario.name}-dropped",
        title=f"{scenario.title}, pages dropped",
        drops=Drop.PAGES,
        job={**once, **scenario.job, **dropped},
        promises=PROMISES.get(f"{scenario.name}-dropped", {}),
    )
    if scenario.group != "small":
        return warm, cold
    forgotten = replace(
        cold,
        name=f"{scenario.name}-forgotten",
        title=f"{scenario.title}, pages, names and inodes dropped",
        drops=Drop.PAGES_NAMES_INODES,
        promises=PROMISES.get(f"{scenario.name}-forgotten", {}),
    )
    return warm, cold, forgotten


def scenarios(sizes: Sizes) -> dict[str, tuple[Scenario, ...]]:
    """Groups of scenarios by the name that selects them."""
    mebibytes = sizes.large_bytes // MIB
    large = f"{mebibytes // 1024} GiB" if mebibytes >= 1024 else f"{mebibytes} MiB"
    files = f"{sizes.small_files:,} files of 100 KB"
    parallel = f"{sizes.parallel_files} processes reading at once"

    def one(name: str, title: str, unit: str, scale: float, group: str, **job: Any) -> Scenario:
        return Scenario(name, title, unit, scale, group, None, {"kind": name, **job})

    sequential = one("sequential", f"sequential {large}", "MiB/s", MIB, "large")
    random = one("random", "random 4 KiB", "reads/s", 1.0, "large", count=RANDOM_READS)
    small = one("small", f"{files}, random order", "files/s", 1.0, "small", file_bytes=FILE_BYTES)
    together = one("parallel", parallel, "MiB/s", MIB, "parallel")
    return {
        "sequential": _both(sequential, {}),
        "random": _both(random, {"count": RANDOM_READS_DROPPED}),
        "small": _both(small, {}),
        "parallel": _both(
            replace(
                together, job={**together.job, "turns": 0, "maximum_seconds": PARALLEL_SECONDS}
            ),
            {"turns": 1, "maximum_seconds": DROPPED_LIMIT_SECONDS},
        ),
    }


def run(
    scenario: Scenario,
    tree: Tree,
    systems: Mapping[str, Mounted],
    failures: Mapping[str, str],
    rounds: int,
    requests: Callable[[], int],
    talk: Callable[[str], None],
) -> Outcome:
    """Each system fills its pages, then come the rounds; `systems` begins with the plain directory.

    `failures` are systems that did not start, and why.
    """
    talk(scenario.title)

    background = [pid for mounted in systems.values() for pid in mounted.background]

    def once(mounted: Mounted, number: int) -> Sample:
        job = {**scenario.job, "paths": tree.groups[scenario.group], "seed": number}
        before, disk = requests(), disk_bytes_read(tree.plain, background)
        sample = read(mounted.directory, job, mounted.pids())
        return replace(
            sample,
            source_requests=requests() - before,
            disk_bytes=disk_bytes_read(tree.plain, background) - disk,
        )

    def take(mounted: Mounted, number: int) -> Sample:
        if scenario.drops is not None:
            drop(scenario.drops)
            return once(mounted, number)
        for _ in range(WARMING_TURNS):
            sample = once(mounted, number)
            if (sample.disk_bytes or 0) < WARM_DISK_BYTES:
                break
        return sample

    takes = {
        name: (lambda number, mounted=mounted: take(mounted, number))
        for name, mounted in systems.items()
    }
    prime(scenario, tree, systems)
    series = take_rounds(takes, rounds, talk)
    series += [Series(name, [], failure) for name, failure in failures.items()]
    return outcome(
        scenario.name, scenario.title, scenario.unit, scenario.scale, series, scenario.promises
    )


def prime(scenario: Scenario, tree: Tree, systems: Mapping[str, Mounted]) -> None:
    """Reads every byte of the group once through each system, so that its pages are there.

    They are dropped before: pages that were written are in larger pieces than those that were read,
    and where data was not made on the machine that trains, all are read.
    """
    if scenario.drops is not None:
        return
    drop(Drop.PAGES)
    paths = tree.groups[scenario.group]
    for mounted in systems.values():
        for path in paths:
            with open(mounted.directory / path, "rb", buffering=0) as stream:
                buffer = page_aligned(MIB)
                while stream.readinto(buffer):
                    pass
