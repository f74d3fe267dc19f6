"""What runtimes of all kinds say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fluidpy.api.conditions import RuntimeCondition
from fluidpy.api.kinds import FLUID_KINDS
from fluidpy.api.metadata import Resource
from fluidpy.api.runtimes.alluxio import AlluxioRuntime
from fluidpy.api.runtimes.cache import CacheRuntime
from fluidpy.control.conditions import find
from fluidpy.control.runtime_status import (
    SUBSTITUTED,
    RuntimeFacts,
    phase_of,
    runtime_status,
    settings_by_effect,
    substitution,
    wanted_workers,
)
from tests.control_objects.objects import NOW, as_stored, cache_runtime, from_yaml

FACTS = RuntimeFacts(desired_workers=2, current_workers=2, ready_workers=1, setup_seconds=3.9)
ALLUXIO = """
apiVersion: data.fluid.io/v1alpha1
kind: AlluxioRuntime
metadata: {name: pets, generation: 2}
spec:
  replicas: 2
  alluxioVersion: {image: registry/alluxio, imageTag: "2.9"}
  tieredstore:
    levels: [{mediumtype: SSD, path: /cache, quota: 2Gi, high: "0.95", low: "0.7"}]
  properties: {alluxio.user.file.writetype.default: hush}
  master: {replicas: 1, jvmOptions: [-Xmx1G]}
"""
ENGINES = [name for name in FLUID_KINDS if name.endswith("Runtime")]


def of_kind(kind: str) -> Resource:
    needed = "  runtimeClassName: elsewhere\n" if kind == "CacheRuntime" else ""
    return from_yaml(
        f"apiVersion: data.fluid.io/v1alpha1\nkind: {kind}\n"
        f"metadata: {{name: pets}}\nspec: {'' if needed else '{}'}\n{needed}"
    )


def conditions_of(resource: Resource) -> list[RuntimeCondition]:
    found: list[RuntimeCondition] = resource.status.conditions  # type: ignore[attr-defined]
    return found


def after(runtime: Resource, facts: RuntimeFacts, now: float = NOW) -> Resource:
    return as_stored(runtime.model_copy(update={"status": runtime_status(runtime, facts, now)}))


def test_fluids_numbers_and_phases() -> None:
    one = after(from_yaml(ALLUXIO), replace(FACTS, desired_mounts=1))
    assert isinstance(one, AlluxioRuntime)
    status = one.status
    assert (status.desired_worker_number_scheduled, status.worker_number_ready) == (2, 1)
    assert (status.worker_phase, status.fuse_phase) == ("PartialReady", "NotReady")
    assert (status.worker_number_unavailable, status.setup_duration) == (1, "3s")
    assert status.observed_generation == 2


def test_a_cache_runtime_counts_by_component() -> None:
    one = after(cache_runtime(2), replace(FACTS, reason="worker-1 is being started"))
    assert isinstance(one, CacheRuntime)
    worker = one.status.worker
    assert worker is not None
    assert (worker.desired_replicas, worker.ready_replicas, worker.phase) == (2, 1, "PartialReady")
    assert worker.message == "worker-1 is being started"
    assert find(one.status.conditions, SUBSTITUTED) is None


@pytest.mark.parametrize("kind", ENGINES)
def test_every_other_engine_is_said_to_be_replaced(kind: str) -> None:
    one = after(of_kind(kind), FACTS)
    found = find(conditions_of(one), SUBSTITUTED)
    assert found is not None
    assert (found.status, found.reason) == ("True", "ServedByFluidpy")
    assert kind in str(found.message)


def test_what_is_honoured_and_what_is_ignored_is_named_without_values() -> None:
    honoured, ignored = settings_by_effect(from_yaml(ALLUXIO))
    assert honoured == [
        "spec.tieredstore.levels.mediumtype",
        "spec.tieredstore.levels.path",
        "spec.tieredstore.levels.quota",
        "spec.tieredstore.levels.high",
        "spec.tieredstore.levels.low",
        "spec.replicas",
    ]
    assert ignored == [
        "spec.alluxioVersion.image",
        "spec.alluxioVersion.imageTag",
        "spec.master.replicas",
        "spec.master.jvmOptions",
        "spec.properties[alluxio.user.file.writetype.default]",
    ]
    assert "hush" not in substitution(from_yaml(ALLUXIO))


def test_scaling_leaves_a_condition_each_time() -> None:
    facts = RuntimeFacts(2, 2, 2)
    one = after(after(cache_runtime(2), facts), RuntimeFacts(4, 4, 2), NOW + 60)
    out = find(conditions_of(one), "WorkersScaledOut")
    assert out is not None
    assert out.message == "from 2 to 4 workers"
    one = after(one, RuntimeFacts(3, 3, 3), NOW + 120)
    again = after(one, RuntimeFacts(5, 5, 3), NOW + 180)
    scaled = find(conditions_of(again), "WorkersScaledOut")
    assert scaled is not None
    assert scaled.last_transition_time != out.last_transition_time
    assert find(conditions_of(again), "WorkersScaledIn") is not None


def test_looking_again_changes_nothing_and_setup_is_told_once() -> None:
    once = after(from_yaml(ALLUXIO), FACTS)
    again = after(once, replace(FACTS, setup_seconds=99), NOW + 99)
    assert again == once


@pytest.mark.parametrize(
    ("kind", "spec", "count"),
    [
        ("AlluxioRuntime", "{}", 1),
        ("AlluxioRuntime", "{replicas: 0}", 0),
        ("JuiceFSRuntime", "{worker: {replicas: 4}}", 4),
        ("VineyardRuntime", "{replicas: 3, worker: {replicas: 4}}", 3),
        ("ThinRuntime", "{profileName: nfs, replicas: 0}", 1),
        ("CacheRuntime", "{runtimeClassName: fluidpy}", 1),
        ("CacheRuntime", "{runtimeClassName: fluidpy, worker: {replicas: 0}}", 0),
        ("CacheRuntime", "{runtimeClassName: x, worker: {disabled: true, replicas: 3}}", 1),
    ],
)
def test_how_many_workers_are_wanted(kind: str, spec: str, count: int) -> None:
    text = f"apiVersion: data.fluid.io/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}"
    assert wanted_workers(from_yaml(text)) == count


def test_phases_of_components() -> None:
    assert [phase_of(2, ready) for ready in (0, 1, 2)] == ["NotReady", "PartialReady", "Ready"]
    assert phase_of(0, 0) == "Ready"
