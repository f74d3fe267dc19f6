"""From apply to delete, with real workers, mounts and clients, and with any of them killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.locate import Locator
from fluidpy.client.session import DatasetSession
from fluidpy.errors import (
    InUseError,
    ObjectNotFoundError,
    ValidationError,
)
from tests.control.conftest import LocalControlPlane, dataset, secret

CONTENT = b"meow" * 5000


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nas")
    (root / "cats").mkdir()
    (root / "cats" / "1.txt").write_bytes(CONTENT)
    (root / "labels.csv").write_text("1,cat\n")
    return root


def await_true(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the control plane tells comes in steps: asked again until it is so."""
    limit = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < limit, "it did not come about in time"
        time.sleep(0.05)
    return found


def phase(control: LocalControlPlane, name: str = "pets") -> str:
    status = control.client.get("datasets", "default", name).get("status", {})
    return str(status.get("phase", ""))


def ready_workers(control: LocalControlPlane, name: str = "pets") -> list[dict[str, Any]]:
    rows = control.client.status()["workers"]
    return [r for r in rows if r["state"] == "Ready" and f"default/{name}" in r["datasets"]]


@contextlib.contextmanager
def session(control: LocalControlPlane, name: str = "pets") -> Iterator[DatasetSession]:
    session = DatasetSession(Locator(control.settings, environ={}).find(name), control.settings)
    try:
        yield session
    finally:
        session.close()
        session.connection.close()


def apply_pets(control: LocalControlPlane, source: Path) -> None:
    control.client.create("datasets", "default", dataset("pets", f"local://{source}"))


def test_one_object_is_enough(control: LocalControlPlane, source: Path) -> None:
    apply_pets(control, source)
    with session(control) as pets:
        assert pets.read("cats/1.txt") == CONTENT
    await_true(lambda: phase(control) == "Bound")
    runtime = control.client.get("cacheruntimes", "default", "pets")
    assert runtime["spec"]["runtimeClassName"] == "fluidpy"
    status = await_true(
        lambda: (
            (seen := control.client.get("datasets", "default", "pets")["status"])
            and seen["fileNum"] == "2"
            and seen
        )
    )
    assert status["ufsTotal"] == "19.54KiB", "the source is listed although nobody asked for it"
    control.client.delete("datasets", "default", "pets")
    await_true(lambda: not control.client.list_objects("datasets")["items"])
    await_true(lambda: not control.client.status()["workers"])
    assert control.client.list_objects("cacheruntimes")["items"] == []


def test_a_runtime_of_any_kind_serves_and_takes_the_place_of_the_default_one(
    control: LocalControlPlane, source: Path, tmp_path: Path
) -> None:
    apply_pets(control, source)
    await_true(lambda: phase(control) == "Bound")
    level = {"mediumtype": "SSD", "path": str(tmp_path / "tier"), "quota": "1Gi"}
    runtime = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "AlluxioRuntime",
        "metadata": {"name": "pets"},
        "spec": {"replicas": 2, "tieredstore": {"levels": [level]}},
    }
    control.client.create("alluxioruntimes", "default", runtime)
    workers = await_true(lambda: (w := ready_workers(control)) and len(w) == 2 and w)
    assert control.client.list_objects("cacheruntimes")["items"] == []
    assert all((tmp_path / "tier" / worker["name"]).is_dir() for worker in workers), (
        "each worker has a directory of its own"
    )
    told = await_true(
        lambda: (
            control.client.get("alluxioruntimes", "default", "pets")
            .get("status", {})
            .get("conditions")
        )
    )
    assert "EngineSubstituted" in {condition["type"] for condition in told}


def test_scaling_names_who_leaves(control: LocalControlPlane, source: Path) -> None:
    apply_pets(control, source)  # which has no runtime yet
    control.client.scale("datasets", "default", "pets", 3)
    await_true(lambda: len(ready_workers(control)) == 3)
    with pytest.raises(ValidationError, match="worker-9"):
        control.client.scale("datasets", "default", "pets", 2, ["worker-9"])
    control.client.scale("datasets", "default", "pets", 2, ["worker-1"])
    await_true(
        lambda: [w["name"] for w in control.client.status()["workers"]] == ["worker-0", "worker-2"]
    )
    with session(control) as pets:
        assert pets.read("labels.csv") == b"1,cat\n"


@pytest.mark.parametrize("killed", ["worker", "control plane", "both"])
def test_all_is_as_declared_after_kills(
    control: LocalControlPlane, source: Path, killed: str
) -> None:
    apply_pets(control, source)
    with session(control) as pets:
        assert pets.read("labels.csv") == b"1,cat\n"
        before = ready_workers(control)[0]
        if killed != "worker":
            control.kill()
        if killed != "control plane":
            os.kill(before["pid"], signal.SIGKILL)
        if killed != "worker":
            control.up()
        assert pets.read("cats/1.txt") == CONTENT
        after = await_true(lambda: ready_workers(control))[0]
        assert after["address"] == before["address"]
        assert (after["pid"] == before["pid"]) == (killed == "control plane")


def test_a_reader_goes_on_while_no_control_plane_runs(
    control: LocalControlPlane, source: Path
) -> None:
    apply_pets(control, source)
    with session(control) as pets:
        assert pets.read("labels.csv") == b"1,cat\n"
        control.kill()
        assert pets.read("cats/1.txt") == CONTENT
    control.up()


def test_a_mount_is_kept_as_declared(
    control: LocalControlPlane, source: Path, tmp_path: Path
) -> None:
    apply_pets(control, source)
    directory = tmp_path / "mnt"
    directory.mkdir()
    record = control.client.declare_mount("default", "pets", str(directory), "auto", deadline=60)
    assert (directory / "cats" / "1.txt").read_bytes() == CONTENT
    control.kill()
    os.kill(record["holderPid"], signal.SIGKILL)
    control.up()
    row = await_true(
        lambda: next((m for m in control.client.status()["mounts"] if m.get("holderPid")), None)
    )
    assert row["holderPid"] != record["holderPid"]
    assert (directory / "cats" / "1.txt").read_bytes() == CONTENT
    control.client.remove_mount(str(directory))
    assert not directory.is_mount()
    assert control.client.status()["mounts"] == []


def test_deletion_waits_while_in_use_and_says_by_what(
    control: LocalControlPlane, source: Path, tmp_path: Path
) -> None:
    apply_pets(control, source)
    directory = tmp_path / "mnt"
    directory.mkdir()
    control.client.declare_mount("default", "pets", str(directory), "auto", deadline=60)
    reader = (
        "import sys, fsspec\n"
        "f = fsspec.filesystem('fluid')\n"
        "print(len(f.cat_file('fluid://pets/labels.csv')), flush=True)\n"
        "sys.stdin.read()"
    )
    environment = {
        **os.environ,
        "FLUIDPY_RUNTIME_DIR": str(control.settings.runtime_dir),
        "FLUIDPY_CACHE_DIR": str(control.settings.cache_dir),
    }
    with subprocess.Popen(
        [sys.executable, "-c", reader],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"6\n"
        control.client.delete("datasets", "default", "pets")
        message = await_true(lambda: _waiting(control, f"process {process.pid}"))
        assert str(directory) in message
        with pytest.raises(InUseError, match=f"process {process.pid}"):
            control.down()
        process.stdin.close()
        process.wait()
    assert (directory / "labels.csv").read_text() == "1,cat\n"
    control.client.remove_mount(str(directory))
    await_true(lambda: _is_gone(control))


def test_the_next_control_plane_deletes_nothing_under_its_readers(
    control: LocalControlPlane, source: Path
) -> None:
    apply_pets(control, source)
    with session(control, "pets") as reader:
        reader.attachment()
        control.client.delete("datasets", "default", "pets")
        await_true(lambda: _waiting(control, f"process {os.getpid()}"))
        control.kill()
        control.up()
        await_true(lambda: ready_workers(control))
        await_true(lambda: _waiting(control, f"process {os.getpid()}"))
        assert reader.read("cats/1.txt") == CONTENT
    await_true(lambda: _is_gone(control))


def _waiting(control: LocalControlPlane, word: str) -> str | None:
    status = control.client.get("datasets", "default", "pets").get("status", {})
    found = [c["message"] for c in status.get("conditions", []) if c["type"] == "DeletionWaiting"]
    return found[0] if found and word in found[0] else None


def _is_gone(control: LocalControlPlane) -> bool:
    try:
        control.client.get("datasets", "default", "pets")
    except ObjectNotFoundError:
        return True
    return False


def test_edited_mounts_appear_under_a_mount(
    control: LocalControlPlane, source: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "new.txt").write_text("new")
    pets = dataset("pets", f"local://{source}")
    pets["spec"]["mounts"][0]["path"] = "/old"
    control.client.create("datasets", "default", pets)
    directory = tmp_path / "mnt"
    directory.mkdir()
    control.client.declare_mount("default", "pets", str(directory), "auto", deadline=60)
    assert os.listdir(directory) == ["old"]
    pets["spec"]["mounts"].append({"mountPoint": f"local://{more}", "name": "n", "path": "/new"})
    control.client.replace("datasets", "default", "pets", pets)
    await_true(lambda: sorted(os.listdir(directory)) == ["new", "old"])
    assert (directory / "new" / "new.txt").read_text() == "new"
    assert (directory / "old" / "labels.csv").read_text() == "1,cat\n"
    await_true(lambda: phase(control) == "Bound")


def test_a_missing_secret_is_told_and_what_runs_goes_on(
    control: LocalControlPlane, source: Path
) -> None:
    apply_pets(control, source)
    await_true(lambda: phase(control) == "Bound")
    wrong = dataset("pets", f"local://{source}")
    wrong["spec"]["mounts"].append(
        {
            "mountPoint": "s3://bucket",
            "path": "/s3",
            "name": "s3",
            "encryptOptions": [
                {"name": "access_key_id", "valueFrom": {"secretKeyRef": {"name": "k", "key": "a"}}},
                {
                    "name": "secret_access_key",
                    "valueFrom": {"secretKeyRef": {"name": "k", "key": "b"}},
                },
            ],
        }
    )
    control.client.replace("datasets", "default", "pets", wrong)
    message = await_true(lambda: _message(control, "Updating"))
    assert "Secret" in message
    with session(control) as pets:
        assert pets.read("labels.csv") == b"1,cat\n"
    control.client.create("secrets", "default", secret("k", a="x", b="hunter2"))
    await_true(lambda: phase(control) == "Bound")
    for worker in control.client.status()["workers"]:
        for name in ("cmdline", "environ"):
            assert b"hunter2" not in Path(f"/proc/{worker['pid']}/{name}").read_bytes()
    assert "hunter2" not in control.log()


def _message(control: LocalControlPlane, kind: str) -> str | None:
    status = control.client.get("datasets", "default", "pets").get("status", {})
    return next((c["message"] for c in status.get("conditions", []) if c["type"] == kind), None)


def test_up_goes_on_with_what_down_left(control: LocalControlPlane, source: Path) -> None:
    apply_pets(control, source)
    await_true(lambda: phase(control) == "Bound")
    pid = ready_workers(control)[0]["pid"]
    control.down()
    assert not Path(f"/proc/{pid}").exists()
    control.up()
    with session(control) as pets:
        assert pets.read("labels.csv") == b"1,cat\n"


def test_a_load_is_split_over_workers_and_tells_what_is_cached(
    control: LocalControlPlane, source: Path
) -> None:
    apply_pets(control, source)
    await_true(lambda: phase(control) == "Bound")
    control.client.scale("datasets", "default", "pets", 2)
    await_true(lambda: len(ready_workers(control)) == 2)
    load = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "DataLoad",
        "metadata": {"name": "pets-load"},
        "spec": {"dataset": {"name": "pets", "namespace": "default"}},
    }
    control.client.create("dataloads", "default", load)

    def ended() -> dict[str, Any] | None:
        status = control.client.get("dataloads", "default", "pets-load").get("status", {})
        return status if status.get("phase") in ("Complete", "Failed") else None

    status = await_true(ended)
    assert status["phase"] == "Complete", status
    progress = status["progress"]
    assert (progress["files"], progress["bytes"]) == (2, len(CONTENT) + len(b"1,cat\n"))
    states = await_true(
        lambda: (
            (seen := control.client.get("datasets", "default", "pets")["status"])
            and seen.get("fileNum") == "2"
            and seen["cacheStates"]["cachedPercentage"] == "100.0%"
            and seen["cacheStates"]
        )
    )
    assert states["cacheCapacity"]
    text = control.client.metrics()
    assert 'dataset_ufs_file_num{dataset="default/pets"} 2.0' in text
    assert 'fluidpy_dataset_phase{dataset="default/pets",phase="Bound"} 1.0' in text
