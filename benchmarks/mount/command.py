"""`python -m benchmarks mount`: everything in one run, a table, a JSON and a plot."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import facts, steady_memory
from benchmarks.mount import find_names, scenarios
from benchmarks.mount.names import Names, make_names
from benchmarks.mount.plot import svg
from benchmarks.mount.programs import DEBIAN, PYPI, install
from benchmarks.mount.rounds import Outcome
from benchmarks.mount.running import Running, add_choice, choose, end_in_order, words_of
from benchmarks.mount.source_requests import counter
from benchmarks.mount.system import System
from benchmarks.mount.table import table
from benchmarks.mount.tree import FULL, QUICK, make_tree
from benchmarks.report import RESULTS
from benchmarks.single.bench import Bench, bench
from fluidpy.testing.servers.process_group import free_ports

GROUPS = ("sequential", "random", "small", "parallel", "find")
_TOUCH_BYTES = 6 * 1024**3
QUICK_NAMES = Names(10, 100)
FOLDER_NAMES = 1000


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's meaning; ends the process with a message when it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mount", description=__doc__)
    parser.add_argument(
        "--only", type=words_of(GROUPS), default=list(GROUPS), help=f"of {','.join(GROUPS)}"
    )
    add_choice(parser)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default 9)")
    parser.add_argument(
        "--quick", "--smoke", action="store_true", help="tiny sizes, 2 rounds; nothing is kept"
    )
    parser.add_argument(
        "--folders",
        type=int,
        default=1000,
        help=f"folders of {FOLDER_NAMES:,} names each that `find` lists (default 1000)",
    )
    parser.add_argument("--results", type=Path, help="where results are kept")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for; 1 when something promised is not there or fluidpy failed."""
    asked = parse(arguments)
    end_in_order()
    (port,) = free_ports(1)
    rounds = min(asked.rounds, 2) if asked.quick else asked.rounds
    with (
        bench(rounds, asked.quick, source_arguments=[f"-metricsPort={port}"]) as prepared,
        steady_memory(1 if asked.quick else _TOUCH_BYTES),
    ):
        if asked.peers:
            install([*PYPI, *DEBIAN], prepared.talk)
        machine = facts(prepared.directory / "machines")
        running = Running(prepared)
        outcomes: list[Outcome] = []
        stopped_by = _measure_all(prepared, asked, running, counter(port), outcomes)
    print(table(outcomes))
    document = {
        "benchmark": "mount",
        "machine": machine,
        "systems": running.known,
        "stopped_by": stopped_by,
        "scenarios": [outcome.to_document() for outcome in outcomes],
    }
    if asked.results or not asked.quick:
        print(f"kept in {_keep(asked, document, outcomes)}")
    return 1 if stopped_by or fails(outcomes) else 0


def fails(outcomes: Sequence[Outcome]) -> bool:
    """Whether fluidpy failed anywhere, or something that it promised is not there.

    What is promised about peers counts where a peer took part.
    """
    ours = [row for found in outcomes for row in found.rows if row.is_ours]
    return any(row.failure or row.comparison is None or row.missed for row in ours)


def _measure_all(
    prepared: Bench,
    asked: argparse.Namespace,
    running: Running,
    requests: Callable[[], int],
    outcomes: list[Outcome],
) -> str:
    """Adds an outcome a scenario; what was measured is kept when a later part fails.

    Answers why not all was measured; empty when it was.
    """
    try:
        # Closed before anything else ends, whatever comes in between: systems are mounted in it.
        with contextlib.closing(_measure(prepared, asked, running, requests)) as measured:
            for outcome in measured:
                prepared.talk("\n" + table([outcome]) + "\n")
                outcomes.append(outcome)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        said = str(error)
        if prepared.server.process.poll() is not None:
            log = (prepared.directory / "weed" / "weed.log").read_text(errors="replace")
            said += f"; the source has ended: {log[-2000:]}"
        prepared.talk(f"stopped: {said}")
        return said
    return ""


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


def _measure(
    prepared: Bench, asked: argparse.Namespace, running: Running, requests: Callable[[], int]
) -> Generator[Outcome, None, None]:
    """The outcomes of the scenarios that were asked for, in their order."""
    sizes = QUICK if asked.quick else FULL
    groups = scenarios.scenarios(sizes)
    names = QUICK_NAMES if asked.quick else Names(asked.folders, FOLDER_NAMES)
    chosen = choose(asked.mode, asked.peers, names)
    if wanted := [group for group in groups if group in asked.only]:
        prepared.talk("making the data")
        tree = make_tree(prepared, "training", sizes)
        with running.mounted(tree, chosen) as (mounted, failures):
            for scenario in (one for group in wanted for one in groups[group]):
                yield scenarios.run(
                    scenario, tree, mounted, failures, prepared.pairs, requests, prepared.talk
                )
    if "find" in asked.only:
        yield from _find(prepared, running, chosen, names, requests)


def _find(
    prepared: Bench,
    running: Running,
    chosen: Sequence[System],
    names: Names,
    requests: Callable[[], int],
) -> list[Outcome]:
    prepared.talk(f"making {names.count:,} names")
    tree = make_names(prepared, "names", names)
    # A read mode says nothing about names: one of them is enough.
    others = [system for system in chosen if system.name.startswith("fluidpy")][1:]
    systems = [system for system in chosen if system not in others]
    with running.mounted(tree, systems) as (mounted, failures):
        return find_names.run(names, mounted, failures, prepared.pairs, requests, prepared.talk)
