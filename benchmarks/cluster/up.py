"""From `fluidpy up` to the first byte, with one Dataset and with many; what they cost at rest.

Each round is a machine's first: no state, no cache, nothing runs. `up` and `apply` are the commands
themselves, as processes; the first byte is read through `fluid://`'s session in this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.pairs import Figure, Outcome, spread
from benchmarks.single.processes import private_bytes
from fluidpy.client.control_client import ControlClient
from fluidpy.client.locate import Locator
from fluidpy.client.session import DatasetSession
from fluidpy.settings import Settings

ROUNDS, MANY, IDLE_SECONDS = 9, 200, 20.0
QUICK_ROUNDS, QUICK_MANY, QUICK_IDLE_SECONDS = 1, 3, 0.5
ONE_SECONDS, MANY_SECONDS, MOST_MIB = 3.0, 60.0, 1024.0
"""What was promised."""

REST_SECONDS = 20.0
"""How long the pool has to come to rest before its processor time is counted."""

COMMAND_SECONDS = 300.0
FILE = "first.txt"


class Machine:
    """A user's directories, in which nothing is yet; `close` leaves nothing running."""

    def __init__(self, directory: Path) -> None:
        """Makes the source."""
        self.directory = directory
        self.source = directory / "source"
        self.source.mkdir()
        (self.source / FILE).write_bytes(b"the first byte")
        folders = {name: directory / name for name in ("cache", "run", "state")}
        self.settings = Settings(
            cache_dir=folders["cache"], runtime_dir=folders["run"], state_dir=folders["state"]
        )
        variables = {f"FLUIDPY_{name.upper()}_DIR": str(path) for name, path in folders.items()}
        variables["FLUIDPY_RUNTIME_DIR"] = variables.pop("FLUIDPY_RUN_DIR")
        self.environment = os.environ | variables
        self.client = ControlClient(self.settings, deadline=COMMAND_SECONDS)

    def command(self, *arguments: str) -> None:
        """Runs `fluidpy` with these arguments."""
        subprocess.run(
            [sys.executable, "-m", "fluidpy", *arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )

    def declaration(self, names: list[str]) -> str:
        """A file that declares Datasets of one file each."""
        documents = [
            {
                "apiVersion": "data.fluid.io/v1alpha1",
                "kind": "Dataset",
                "metadata": {"name": name},
                "spec": {
                    "mounts": [{"mountPoint": f"local://{self.source}", "name": "m", "path": "/"}]
                },
            }
            for name in names
        ]
        file = self.directory / "datasets.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        return str(file)

    def await_bound(self, number: int) -> None:
        """Returns when so many Datasets are Bound; asks no oftener than it costs little."""
        limit = time.monotonic() + COMMAND_SECONDS
        pause = 0.01 if number == 1 else 0.2
        while sum(map(_is_bound, self.client.list_objects("datasets")["items"])) < number:
            if time.monotonic() > limit:
                raise RuntimeError(f"{number} Datasets were not Bound in {COMMAND_SECONDS:g} s")
            time.sleep(pause)

    def read_first(self, names: list[str]) -> None:
        """Reads the file of each Dataset."""
        for name in names:
            definition = Locator(self.settings, environ={}).find(name)
            session = DatasetSession(definition, self.settings)
            try:
                if session.read(FILE) != b"the first byte":
                    raise RuntimeError(f"wrong bytes in {name}")
            finally:
                session.close()
                session.connection.close()

    def processes(self) -> dict[str, int]:
        """The processes of the control plane by name."""
        status = self.client.status()
        workers = {str(row["name"]): int(row["pid"]) for row in status["workers"]}
        return {"control plane": int(status["pid"]), **workers}

    def close(self) -> None:
        """Ends all that runs."""
        if self.client.is_running():
            self.command("down", "--force")


@contextmanager
def new_machine() -> Iterator[Machine]:
    """One for a round."""
    with tempfile.TemporaryDirectory(prefix="fp") as directory:
        machine = Machine(Path(directory))
        try:
            yield machine
        finally:
            machine.close()


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """Some rounds with one Dataset, then one with many."""
    steps: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(QUICK_ROUNDS if quick else ROUNDS):
        with new_machine() as machine:
            for step, seconds in _brought_up(machine, ["one"]).items():
                steps[step].append(seconds)
        talk(f"{number + 1}: " + ", ".join(f"{k} {v[-1]:.2f} s" for k, v in steps.items()))
    many = QUICK_MANY if quick else MANY
    with new_machine() as machine:
        times = _brought_up(machine, [f"data-{number:03}" for number in range(many)])
        talk(f"{many}: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in times.items()))
        memory = {name: private_bytes(pid) for name, pid in machine.processes().items()}
        rest = 0.0 if quick else REST_SECONDS
        idle = _idle_percent(machine, rest, QUICK_IDLE_SECONDS if quick else IDLE_SECONDS)
    figures = _figures(steps, times, many, sum(memory.values()) / 2**20, idle, quick)
    facts = {
        "up_many_seconds": {step: round(seconds, 2) for step, seconds in times.items()},
        "up_private_mib": {name: round(size / 2**20, 1) for name, size in memory.items()},
        "up_idle_percent": {name: round(percent, 2) for name, percent in idle.items()},
    }
    return Outcome(figures=figures, facts=facts)


def _figures(
    steps: dict[str, list[float]],
    times: dict[str, float],
    many: int,
    private_mib: float,
    idle: dict[str, float],
    quick: bool,
) -> list[Figure]:
    """A quick run promises nothing: it may be one beside many."""
    found = [
        Figure(f"one Dataset: {step}", "s", spread(seconds))
        for step, seconds in steps.items()
        if step != "in all"
    ]
    at_most: tuple[float | None, ...] = (ONE_SECONDS, MANY_SECONDS, MOST_MIB)
    one, all_of_many, mib = (None, None, None) if quick else at_most
    return [
        *found,
        Figure("one Dataset: up to first byte", "s", spread(steps["in all"]), at_most=one),
        Figure(f"{many} Datasets: up to first bytes", "s", spread([times["in all"]]),
               at_most=all_of_many),
        Figure("private memory of all processes", "MiB", spread([private_mib]), at_most=mib),
        Figure(f"{many} Datasets at rest", "% CPU", spread([sum(idle.values())])),
    ]  # fmt: skip


def _brought_up(machine: Machine, names: list[str]) -> dict[str, float]:
    """Seconds of each step, and of all."""
    file = machine.declaration(names)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("fluidpy up", lambda: machine.command("up")),
        ("fluidpy apply", lambda: machine.command("apply", "-f", file)),
        ("until Bound", lambda: machine.await_bound(len(names))),
        ("first byte", lambda: machine.read_first(names)),
    ]
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    for name, step in steps:
        begin = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - begin
    return seconds | {"in all": time.perf_counter() - began}


def _is_bound(dataset: dict[str, Any]) -> bool:
    return bool(dataset.get("status", {}).get("phase") == "Bound")


def _idle_percent(machine: Machine, rest: float, seconds: float) -> dict[str, float]:
    """Processor time of each process while nobody asks anything, in per cent of one processor."""
    time.sleep(rest)
    processes = machine.processes()
    before = {name: _cpu_seconds(pid) for name, pid in processes.items()}
    begin = time.perf_counter()
    time.sleep(seconds)
    passed = time.perf_counter() - begin
    return {
        name: 100 * (_cpu_seconds(pid) - before[name]) / passed for name, pid in processes.items()
    }


def _cpu_seconds(pid: int) -> float:
    """Of the scheduler's own count, in nanoseconds there: ticks are too coarse for a process at
    rest.
    """
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9
