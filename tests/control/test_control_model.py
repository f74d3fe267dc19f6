"""Whatever is applied, edited, scaled, killed and deleted: the world becomes what is declared."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.managed import ManagedDataset
from fluidpy.client.session import DatasetSession
from fluidpy.errors import FluidpyError, ObjectConflictError, ObjectExistsError, ObjectNotFoundError
from tests.control.conftest import LocalControlPlane, dataset, local_control_plane

NAMES = ("a", "b", "c")
STEPS = 25
SECONDS = 90.0
"""How long the world may take to become what is declared, on a busy machine."""


class World:
    """What was declared: of each Dataset its source and its number of workers."""

    def __init__(self, control: LocalControlPlane, sources: dict[str, Path], seed: int) -> None:
        self.control, self.sources = control, sources
        self.chance = random.Random(seed)
        self.declared: dict[str, tuple[str, int]] = {}
        self.history: list[str] = []
        self.is_up = True

    def step(self) -> None:
        actions = [
            self.apply,
            self.edit,
            self.scale,
            self.kill_worker,
            self.kill_control,
            self.delete,
        ]
        action = self.chance.choice(actions)
        self.history.append(action.__name__)
        action()
        if not self.is_up and self.chance.random() < 0.7:
            self.up()

    def up(self) -> None:
        self.control.up()
        self.is_up = True

    def one(self) -> str | None:
        return self.chance.choice(sorted(self.declared)) if self.declared and self.is_up else None

    def apply(self) -> None:
        name = self.chance.choice(NAMES)
        if not self.is_up or name in self.declared:
            return
        source = self.chance.choice(sorted(self.sources))
        with contextlib.suppress(ObjectExistsError):  # the one before is still being deleted
            document = dataset(name, f"local://{self.sources[source]}")
            self.control.client.create("datasets", "default", document)
            self.declared[name] = source, 1

    def edit(self) -> None:
        if (name := self.one()) is None:
            return
        source = self.chance.choice(sorted(self.sources))
        document = dataset(name, f"local://{self.sources[source]}")
        self.control.client.replace("datasets", "default", name, document)
        self.declared[name] = source, self.declared[name][1]

    def scale(self) -> None:
        if (name := self.one()) is None:
            return
        count = self.chance.randint(1, 3)
        with contextlib.suppress(ObjectNotFoundError, ObjectConflictError):
            self.control.client.scale("datasets", "default", name, count)
            self.declared[name] = self.declared[name][0], count

    def delete(self) -> None:
        if (name := self.one()) is None:
            return
        self.control.client.delete("datasets", "default", name)
        del self.declared[name]

    def kill_worker(self) -> None:
        if not self.is_up:
            return
        for row in self.control.client.status()["workers"]:
            if row["pid"] and self.chance.random() < 0.5:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGKILL)

    def kill_control(self) -> None:
        if self.is_up:
            self.control.kill()
            self.is_up = False

    def check(self) -> None:
        if not self.is_up:
            self.up()
        limit = time.monotonic() + SECONDS
        while (wrong := self.what_differs()) and time.monotonic() < limit:
            time.sleep(0.1)
        assert not wrong, (wrong, self.history, self.control.log()[-3000:])

    def what_differs(self) -> list[str]:
        client = self.control.client
        wrong: list[str] = []
        there = {one["metadata"]["name"]: one for one in client.list_objects("datasets")["items"]}
        if set(there) != set(self.declared):
            wrong.append(f"there are {sorted(there)}, declared are {sorted(self.declared)}")
        workers = client.status()["workers"]
        if len(workers) != max((count for _, count in self.declared.values()), default=0):
            wrong.append(f"the workers are {[row['name'] for row in workers]}")
        for name, (source, count) in self.declared.items():
            phase = there.get(name, {}).get("status", {}).get("phase")
            on = [row for row in workers if f"default/{name}" in row["datasets"]]
            if phase != "Bound" or len(on) != count:
                wrong.append(f"{name} is {phase} on {len(on)} of {count} workers")
            elif (told := self.read(name)) != source:
                wrong.append(f"{name} reads {told!r}, declared is {source}")
        return wrong

    def read(self, name: str) -> str:
        settings = self.control.settings
        session = DatasetSession(ManagedDataset("default", name, settings), settings)
        try:
            session.entry("which.txt", refresh=True)
            return session.read("which.txt").decode()
        except FluidpyError as error:
            return str(error)
        finally:
            session.close()
            session.connection.close()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sources")
    found: dict[str, Path] = {}
    for name in ("first", "second"):
        found[name] = root / name
        found[name].mkdir()
        (found[name] / "which.txt").write_text(name)
    return found


def run(directory: Path, sources: dict[str, Path], seed: int, steps: int) -> Any:
    print(f"seed {seed}")
    with local_control_plane(directory) as control:
        world = World(control, sources, seed)
        for number in range(steps):
            world.step()
            if number % 5 == 4:
                world.check()
        world.check()


def test_the_world_becomes_what_is_declared(tmp_path: Path, sources: dict[str, Path]) -> None:
    run(tmp_path, sources, seed=1, steps=5)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_world_becomes_what_is_declared_again_and_again(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    run(tmp_path, sources, seed=random.randrange(1 << 32), steps=STEPS)
