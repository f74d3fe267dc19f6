"""The declared number of workers and of copies changes, and the source gives nothing again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fluidpy.cluster.membership import DatasetMembership, read_membership
from fluidpy.testing.servers.object_server import object_server
from tests.cluster_reading.bed import CountingServer
from tests.control.conftest import LocalControlPlane, dataset
from tests.control.test_life_of_a_dataset import await_true, ready_workers, session

FILES = {f"d/{n:02}": random.Random(n).randbytes(150_000) for n in range(40)}


def settled(control: LocalControlPlane, workers: int, replicas: int) -> DatasetMembership | None:
    """Where the Dataset lies, once nothing moves and so many workers and copies are there."""
    (file,) = control.directory.rglob("membership.json")
    placed = read_membership(file).datasets["default/pets"]
    found = (len(placed.members), placed.replicas, placed.previous)
    return placed if found == (workers, replicas, ()) else None


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_workers_and_copies_come_and_go_without_the_source(
    control: LocalControlPlane, tmp_path: Path
) -> None:
    server = CountingServer()
    server.buckets["pets"] = {}
    server.put_all("pets", FILES)
    with object_server(server):
        options = {"endpoint": server.endpoint, "region": "us-east-1", "anonymous": "true"}
        options |= {"path_style": "true", "allow_http": "true"}
        document = dataset("pets", "s3://pets")
        document["spec"]["mounts"][0]["options"] = options
        control.client.create("datasets", "default", document)
        runtime = {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "AlluxioRuntime",
            "metadata": {"name": "pets", "namespace": "default"},
            "spec": {"replicas": 2},
        }
        control.client.create("alluxioruntimes", "default", runtime)
        await_true(lambda: len(ready_workers(control)) == 2, 60)
        assert read_all(control) == FILES
        server.bytes.clear()

        control.client.scale("alluxioruntimes", "default", "pets", 3)
        await_true(lambda: settled(control, 3, 1), 60)
        assert read_all(control) == FILES
        with_copies = control.client.get("alluxioruntimes", "default", "pets")
        with_copies["spec"]["data"] = {"replicas": 2}
        control.client.replace("alluxioruntimes", "default", "pets", with_copies)
        await_true(lambda: settled(control, 3, 2), 60)
        control.client.scale("alluxioruntimes", "default", "pets", 2, ["worker-0"])
        placed = await_true(lambda: settled(control, 2, 2), 60)
        assert placed.members == ("worker-1", "worker-2")
        assert read_all(control) == FILES
        assert sum(server.bytes.values()) == 0


def read_all(control: LocalControlPlane) -> dict[str, bytes]:
    with session(control) as pets:
        return {path: pets.read(path) for path in FILES}
