"""DataLoads carried out by real workers: progress, deaths, failures, chains."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.control.data_loads import DATA_LOADS, DataLoads
from fluidpy.control.event_log import EventLog
from fluidpy.control.load_runs import WorkerAccess
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.testing.servers.object_server import ObjectServer, object_server
from tests.control_objects.objects import dataset
from tests.worker.conftest import Machine, await_end

FILES = 40


class Pool:
    """Two workers of the same source, each with a cache of its own."""

    def __init__(self, machines: dict[str, Machine]) -> None:
        self.machines = machines
        self.away: set[str] = set()

    def members_of(self, dataset: str) -> frozenset[str]:
        return frozenset(self.machines) if dataset == "default/data" else frozenset()

    def ready_members_of(self, dataset: str) -> frozenset[str]:
        return self.members_of(dataset) - self.away

    def access_to(self, dataset: str, member: str) -> WorkerAccess:
        machine = self.machines[member]
        first = next(iter(self.machines.values()))
        return WorkerAccess(machine.definition(source=first.source()), machine.settings)


class Plane:
    """The part of a control plane that carries loads out."""

    def __init__(self, directory: Path, pool: Pool) -> None:
        self.directory, self.pool = directory, pool
        self.start()
        self.declare("datasets", "data", dataset_document(), {"phase": "Bound"})

    def start(self) -> None:
        self.store = ObjectStore(self.directory)
        self.loads = DataLoads(self.store, self.pool, EventLog(self.store))

    def stop(self) -> None:
        self.loads.close()
        self.store.close()

    def declare(
        self, plural: str, name: str, document: dict[str, Any], status: dict[str, Any] | None = None
    ) -> ObjectKey:
        key = ObjectKey(plural, "default", name)
        self.store.create(key, document)
        if status is not None:
            self.store.set_status(key, status)
        return key

    def load(self, name: str = "warm", **spec: Any) -> ObjectKey:
        target = {"name": "data", "namespace": "default"}
        return self.declare(
            DATA_LOADS,
            name,
            {
                "apiVersion": "data.fluid.io/v1alpha1",
                "kind": "DataLoad",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"dataset": target, **spec},
            },
        )

    def status(self, key: ObjectKey) -> dict[str, Any]:
        found: dict[str, Any] = self.store.get(key).get("status", {})
        return found

    def until(self, key: ObjectKey, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        limit = time.monotonic() + 60
        while True:
            self.loads.look()
            if holds(self.status(key)):
                return self.status(key)
            assert time.monotonic() < limit, self.status(key)
            time.sleep(0.02)

    def is_connected(self, key: ObjectKey, member: str) -> bool:
        """Whether a worker was reached for its share of a load."""
        share = self.loads._runs._shares.get(key, {}).get(member)
        return share is not None and share._connection is not None and share._connection.connected

    def ended(self, key: ObjectKey) -> dict[str, Any]:
        return self.until(key, lambda status: status.get("phase") in ("Complete", "Failed"))

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.store.list_objects("events")]


def dataset_document() -> dict[str, Any]:
    from fluidpy.api.serialisation import to_dict

    document = to_dict(dataset())
    document["metadata"] = {"name": "data", "namespace": "default"}
    return document


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture
def pool(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, server: ObjectServer
) -> Iterator[Pool]:
    machines: dict[str, Machine] = {}
    for name in ("worker-0", "worker-1"):
        runtime = tmp_path_factory.mktemp("r")
        runtime.chmod(0o700)
        machines[name] = Machine(tmp_path / name, runtime, server, f"{tmp_path.name}-{name}"[:60])
    for number in range(FILES):
        machines["worker-0"].write(f"d/{number}", b"x" * 100_000)
    yield Pool(machines)
    for machine in machines.values():
        machine.close()


@pytest.fixture
def plane(tmp_path: Path, pool: Pool) -> Iterator[Plane]:
    plane = Plane(tmp_path / "objects", pool)
    yield plane
    plane.stop()


def test_a_load_is_carried_out_by_all_workers_and_told(plane: Plane) -> None:
    key = plane.load()
    status = plane.ended(key)
    assert status["phase"] == "Complete"
    progress = status["progress"]
    assert progress["files"] == progress["filesTotal"] >= FILES
    assert progress["bytes"] == progress["bytesTotal"] >= FILES * 100_000
    assert {"DataLoadJobStarted", "DataLoadJobComplete"} <= set(plane.reasons())


def test_what_cannot_be_read_is_named_and_the_load_fails(plane: Plane) -> None:
    key = plane.load(target=[{"path": "/d/1"}, {"path": "/nowhere"}])
    status = plane.ended(key)
    assert status["phase"] == "Failed"
    assert "nowhere" in status["conditions"][0]["message"]
    assert "nowhere" in status["progress"]["failures"][0]["path"]


def test_a_worker_that_is_killed_is_asked_again(plane: Plane, pool: Pool) -> None:
    key = plane.load()
    pid = pool.machines["worker-1"].pid
    os.kill(pid, signal.SIGSTOP)
    plane.until(key, lambda status: plane.is_connected(key, "worker-1"))
    assert plane.status(key)["phase"] == "Executing"
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    assert plane.ended(key)["phase"] == "Complete"
    assert "DataLoadResumed" in plane.reasons()


def test_an_edit_while_it_runs_is_carried_out(plane: Plane, pool: Pool) -> None:
    key = plane.load(target=[{"path": "/d/1"}])
    pid = pool.machines["worker-1"].pid
    os.kill(pid, signal.SIGSTOP)
    plane.until(key, lambda status: plane.is_connected(key, "worker-1"))
    document = plane.store.get(key)
    edited = {**document, "spec": {**document["spec"], "target": [{"path": "/nowhere"}]}}
    plane.store.replace(key, edited)
    plane.loads.look()
    os.kill(pid, signal.SIGCONT)
    assert plane.ended(key)["phase"] == "Failed"
    assert "nowhere" in plane.status(key)["conditions"][0]["message"]


def test_the_next_control_plane_goes_on(plane: Plane, pool: Pool) -> None:
    pool.away = {"worker-1"}
    key = plane.load()
    plane.until(key, lambda status: status.get("progress", {}).get("files", 0) >= FILES)
    assert plane.status(key)["phase"] == "Executing"
    plane.stop()
    pool.away = set()
    plane.start()
    assert plane.ended(key)["phase"] == "Complete"


def test_a_chain_and_a_time_to_live(plane: Plane) -> None:
    second = plane.load("second", runAfter={"kind": "DataLoad", "name": "first"})
    status = plane.until(second, lambda status: status.get("phase") == "Pending")
    assert status["waitingFor"] == {"operationComplete": True}
    first = plane.load("first", ttlSecondsAfterFinished=0)
    limit = time.monotonic() + 60
    while plane.store.find(first) is not None:
        plane.loads.look()
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert "DataLoadJobComplete" in plane.reasons()


def test_looking_at_what_waits_writes_nothing(plane: Plane) -> None:
    plane.load(dataset={"name": "elsewhere", "namespace": "default"})
    plane.loads.look()
    revision = plane.store.revision
    for _ in range(20):
        plane.loads.look()
    assert plane.store.revision == revision


def test_a_load_that_is_deleted_is_given_up(plane: Plane) -> None:
    key = plane.load()
    plane.loads.look()
    plane.store.delete(key)
    plane.loads.look()
    assert plane.loads.running() == {}


def test_events_outlive_the_control_plane(tmp_path: Path) -> None:
    from fluidpy.control.events import ObjectOfEvent, normal

    about = ObjectOfEvent("Dataset", "default", "pets", "u1")
    store = ObjectStore(tmp_path)
    log = EventLog(store)
    for second in range(40):
        log.record(normal(about, "Ready", "it can be read", 1000.0 + second))
    store.close()
    store = ObjectStore(tmp_path)
    log = EventLog(store)
    log.record(normal(about, "Ready", "it can be read", 1100.0))
    (event,) = store.list_objects("events")
    assert event["count"] >= 31
    assert event["firstTimestamp"] == "1970-01-01T00:16:40Z"
    store.close()
