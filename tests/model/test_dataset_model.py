"""The model test: random trees and operations against the reference file system."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.model.dataset_machine import SIZES, DatasetMachine, Surroundings
from tests.model.place import new_place
from tests.model.sources import AgedFolders

MachineClass = type[DatasetMachine]


@pytest.fixture
def machine(seaweedfs_server: SeaweedServer, bucket: str) -> Iterator[MachineClass]:
    """The machine's class, with one worker's place for all of its examples."""
    with new_place(idle_seconds=120.0) as place:
        aged = AgedFolders(place.base / "aged", SIZES)
        surroundings = Surroundings(place, seaweedfs_server, bucket, aged, itertools.count(1))
        yield type("Machine", (DatasetMachine,), {"surroundings": surroundings})
        assert not place.mounted
        place.end_worker()
        assert place.processes() == {}


def run(machine: MachineClass, examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=checks,
        ),
    )


@pytest.mark.timeout(400)
def test_a_dataset_is_what_its_sources_hold(machine: MachineClass) -> None:
    run(machine, 8, 18)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_dataset_is_what_its_sources_hold_for_long(machine: MachineClass) -> None:
    run(machine, 40, 30)
