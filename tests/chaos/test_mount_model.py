"""The model of a mount that outlives its servers, in each read mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.bed import Bed, new_bed
from tests.chaos.mapper import Mapper
from tests.chaos.mount_machine import MountMachine, Surroundings
from tests.chaos.read_modes import every_mode, options_of
from tests.chaos.test_storms import upgrade

MachineClass = type[MountMachine]


@pytest.fixture
def machine(read_mode: str) -> Iterator[MachineClass]:
    """The machine's class, with one mount for all of its examples."""
    with new_bed(**options_of(read_mode)) as bed:
        mapper = Mapper()
        surroundings = Surroundings(bed, mapper, upgrade)
        try:
            yield type("Machine", (MountMachine,), {"surroundings": surroundings})
        finally:
            mapper.close()
        leave(bed)


def leave(bed: Bed) -> None:
    """Nothing is left of the mount when it is unmounted."""
    bed.place.unmount()
    bed.session.connection.close()
    bed.place.end_worker()
    assert bed.place.processes() == {}


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
@every_mode(quick="passthrough")
def test_a_mount_is_what_its_source_holds(machine: MachineClass) -> None:
    run(machine, 8, 25)


@pytest.mark.timeout(3600)
@every_mode(soak=True)
def test_a_mount_is_what_its_source_holds_for_long(machine: MachineClass) -> None:
    run(machine, 80, 50)
