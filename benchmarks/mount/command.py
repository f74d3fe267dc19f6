"""`python -m benchmarks mount`: everything in one run, a table, a JSON and a plot."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import facts, steady_memory
from benchmarks.mount import find_names, scenarios
from benchmarks.mount.fluidpy_mount import MODES, fluidpy
from benchmarks.mount.juicefs import juicefs
from benchmarks.mount.names import Names, make_names
from benchmarks.mount.plot import svg
from benchmarks.mount.programs import DEBIAN, PYPI, install
from benchmarks.mount.rclone import rclone
from benchmarks.mount.rounds import Outcome
from benchmarks.mount.s3fs import s3fs
from benchmarks.mount.source_requests import counter
from benchmarks.mount.system import PLAIN, Mounted, System
from benchmarks.mount.table import table
from benchmarks.mount.tree import FULL, QUICK, Sizes, Tree, make_tree
from benchmarks.report import RESULTS
from benchmarks.single.bench import Bench, bench
from fluidpy.testing.servers.process_group import free_ports

PEERS = ("juicefs", "rclone", "s3fs")
GROUPS = ("sequential", "random", "small", "parallel", "find")
_TOUCH_BYTES = 6 * 1024**3
_FULL_NAMES, _QUICK_NAMES = Names(1000, 1000), Names(10, 100)


def _words(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word and word != "none"]
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word}: choose from {', '.join(allowed)}")
        return words

    return parse


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's meaning; ends the process with a message when it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mount", description=__doc__)
    parser.add_argument(
        "--only", type=_words(GROUPS), default=list(GROUPS), help=f"of {','.join(GROUPS)}"
    )
    modes = (*MODES, "auto", "default")
    parser.add_argument("--mode", type=_words(modes), default=list(MODES), help="read modes")
    parser.add_argument(
        "--peers", type=_words(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}, or none"
    )
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default 9)")
    parser.add_argument(
        "--quick", "--smoke", action="store_true", help="tiny sizes, 2 rounds; nothing is kept"
    )
    parser.add_argument("--results", type=Path, help="where results are kept")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for; 1 when a promised ratio is not there or fluidpy failed."""
    asked = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    (port,) = free_ports(1)
    rounds = min(asked.rounds, 2) if asked.quick else asked.rounds
    with (
        bench(rounds, asked.quick, source_arguments=[f"-metricsPort={port}"]) as prepared,
        steady_memory(1 if asked.quick else _TOUCH_BYTES),
    ):
        if asked.peers:
            install([*PYPI, *DEBIAN], prepared.talk)
        machine = facts(prepared.directory / "machines")
        run = _Run(prepared, asked, counter(port))
        outcomes = run.all()
    print(table(outcomes))
    document = {
        "benchmark": "mount",
        "machine": machine,
        "systems": run.systems,
        "scenarios": [outcome.to_document() for outcome in outcomes],
    }
    if asked.results or not asked.quick:
        print(f"kept in {_keep(asked, document, outcomes)}")
    ours = [row for o in outcomes for row in o.rows if row.system.startswith("fluidpy")]
    failed = [row for row in ours if row.failure or row.comparison is None]
    missed = [row for row in ours if row.comparison and row.comparison.reached is False]
    return 1 if failed or missed else 0


def _keep(asked: argparse.Namespace, document: dict[str, Any], outcomes: list[Outcome]) -> Path:
    directory: Path = asked.results or RESULTS
    directory.mkdir(parents=True, exist_ok=True)
    part = "" if asked.only == list(GROUPS) else "-" + "-".join(asked.only)
    path = directory / f"mount{part}.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    machine = document["machine"]
    caption = (
        f"{machine['cores']} cores, Linux {machine['kernel']}, {machine['measured_at'][:10]}, "
        f"commit {machine['commit']}"
    )
    path.with_suffix(".svg").write_text(svg(outcomes, caption))
    return path


class _Run:
    """The systems of one run and what is known of them."""

    def __init__(
        self, prepared: Bench, asked: argparse.Namespace, requests: Callable[[], int]
    ) -> None:
        self._bench = prepared
        self._asked = asked
        self._requests = requests
        self._names = _QUICK_NAMES if asked.quick else _FULL_NAMES
        peers = {"juicefs": lambda: juicefs(self._names), "rclone": rclone, "s3fs": s3fs}
        self._chosen = [PLAIN, *map(fluidpy, asked.mode), *(peers[p]() for p in asked.peers)]
        self.systems: dict[str, dict[str, str]] = {}

    def all(self) -> list[Outcome]:
        """The outcomes of the scenarios that were asked for, in their order."""
        outcomes: list[Outcome] = []
        sizes: Sizes = QUICK if self._asked.quick else FULL
        groups = scenarios.scenarios(sizes)
        if wanted := [group for group in groups if group in self._asked.only]:
            self._bench.talk("making the data")
            tree = make_tree(self._bench, "training", sizes)
            with self._mounted(tree, self._chosen) as (mounted, failures):
                for scenario in (one for group in wanted for one in groups[group]):
                    outcomes.append(self._one(scenario, tree, mounted, failures))
        if "find" in self._asked.only:
            outcomes += self._find()
        return outcomes

    def _one(
        self,
        scenario: scenarios.Scenario,
        tree: Tree,
        mounted: Mapping[str, Mounted],
        failures: Mapping[str, str],
    ) -> Outcome:
        prepared = self._bench
        found = scenarios.run(
            scenario, tree, mounted, failures, prepared.pairs, self._requests, prepared.talk
        )
        prepared.talk("\n" + table([found]) + "\n")
        return found

    def _find(self) -> list[Outcome]:
        self._bench.talk(f"making {self._names.count:,} names")
        tree = make_names(self._bench, "names", self._names)
        # A read mode says nothing about names: one of them is enough.
        ours = [system.name for system in self._chosen if system.name.startswith("fluidpy")][1:]
        chosen = [system for system in self._chosen if system.name not in ours]
        with self._mounted(tree, chosen) as (mounted, failures):
            rounds, talk = self._bench.pairs, self._bench.talk
            return find_names.run(self._names, mounted, failures, rounds, self._requests, talk)

    @contextlib.contextmanager
    def _mounted(
        self, tree: Tree, chosen: Sequence[System]
    ) -> Iterator[tuple[dict[str, Mounted], dict[str, str]]]:
        """Every system that starts and shows the right bytes; why the others did not."""
        with contextlib.ExitStack() as stack:
            mounted: dict[str, Mounted] = {}
            failures: dict[str, str] = {}
            for system in chosen:
                self._bench.talk(f"starting {system.name}, reading and checking all files")
                own = stack.enter_context(contextlib.ExitStack())
                try:
                    mounted[system.name] = self._start(own, system, tree)
                except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                    own.close()
                    failure = str(error).replace(str(self._bench.directory), "")
                    failures[system.name] = self.systems[system.name]["failure"] = failure
                    self._bench.talk(f"{system.name} failed: {failure}")
            yield mounted, failures

    def _start(self, stack: contextlib.ExitStack, system: System, tree: Tree) -> Mounted:
        known = self.systems.setdefault(system.name, {})
        known["version"] = system.version()
        opened = system.open_data if tree.groups else system.open_names
        found = stack.enter_context(opened(self._bench, tree))
        known["options"] = found.options.replace(str(self._bench.directory), "")
        known["note"] = found.note
        tree.check(found.directory)
        return found
