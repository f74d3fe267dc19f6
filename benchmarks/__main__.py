"""`python -m benchmarks NAME [--pairs N] [--smoke]`: runs one benchmark and keeps its result.

`mount` and `requests` have options of their own: `python -m benchmarks mount --help`.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.machine import facts, steady_memory
from benchmarks.pairs import Outcome
from benchmarks.report import keep, table
from benchmarks.single.bench import bench

SCENARIOS = {
    "cold-sequential": "benchmarks.single.cold_sequential",
    "load-objects": "benchmarks.single.load_objects",
    "warm-url": "benchmarks.single.warm_url",
    "million": "benchmarks.single.million",
    "memory": "benchmarks.single.memory",
}
"""Name of a benchmark and the module whose `run` it is."""

COMMANDS = {
    "mount": "benchmarks.mount.command",
    "requests": "benchmarks.mount.requests",
    "cluster": "benchmarks.cluster.command",
}
"""Benchmarks with options of their own, and the module whose `main` they are."""

_TOUCH_BYTES = 6 * 1024**3
"""About what a scenario keeps in the page cache at once; see `steady_memory`."""


def main() -> int:
    """Runs what the command line asks for; 1 when a figure that was promised is not there."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        command = importlib.import_module(COMMANDS[sys.argv[1]])
        try:
            return int(command.main(sys.argv[2:]))
        except KeyboardInterrupt:
            return 130
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=sorted([*SCENARIOS, *COMMANDS]))
    parser.add_argument("--pairs", type=int, default=9, help="interleaved pairs (default 9)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; nothing is kept")
    arguments = parser.parse_args()
    scenario = importlib.import_module(SCENARIOS[arguments.name])
    touch = 1 if arguments.smoke else _TOUCH_BYTES
    with bench(arguments.pairs, arguments.smoke) as prepared, steady_memory(touch):
        machine = facts(prepared.directory / "machines")
        outcome: Outcome = scenario.run(prepared)
    print(table(outcome))
    for name, value in outcome.facts.items():
        print(f"{name}: {value}")
    if not arguments.smoke:
        print(f"kept in {keep(arguments.name, machine, outcome)}")
    return int(outcome.missed)


if __name__ == "__main__":
    sys.exit(main())
