"""`python -m benchmarks cluster [--only NAME,…] [--quick]`: what a pool of workers promises."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import facts
from benchmarks.pairs import Outcome
from benchmarks.report import keep, table

SCENARIOS: Final = {
    "grow": "benchmarks.cluster.grow",
    "kill": "benchmarks.cluster.kill",
    "once": "benchmarks.cluster.once",
    "shrink": "benchmarks.cluster.shrink",
    "transport": "benchmarks.cluster.transport",
    "up": "benchmarks.cluster.up",
}
"""Name of a scenario and the module whose `run(talk, quick=…)` it is."""


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for; 1 when a figure that was promised is not there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cluster", description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"of {','.join(SCENARIOS)}")
    parser.add_argument("--quick", "--smoke", action="store_true", help="tiny; nothing is kept")
    asked = parser.parse_args(arguments)
    names = asked.only.split(",")
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(prefix="fp") as directory:
        machine = facts(Path(directory))
    missed = False
    for name in names:
        outcome: Outcome = importlib.import_module(SCENARIOS[name]).run(_talk, quick=asked.quick)
        print(table(outcome))
        for fact, value in outcome.facts.items():
            print(f"{fact}: {value}")
        if not asked.quick:
            print(f"kept in {keep(f'cluster-{name}', machine, outcome)}")
        missed |= outcome.missed
    return int(missed)


def _talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
