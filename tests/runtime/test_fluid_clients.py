"""Entrypoints as images for Fluid's ThinRuntime have them, run as they are."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.api.dataset import Dataset
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.linux_processes import mount_table, processes_with, unmount_below
from fluidpy.control.runtime_keeper import order_of, write_files
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import RuntimePlace, RuntimeRequest
from fluidpy.runtime.manifest import Manifest, load_manifest
from fluidpy.runtime.mount_driver import MountDriver
from fluidpy.testing.conformance.bed import test_bed
from tests.runtime.test_mount_plugins import RUNTIMES, missing

CLIENTS = Path(__file__).parent / "fluid_clients"
ABSENT = missing("sshfs", "sshd", "ssh-keyscan")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="shows files at /etc/fluid, as root"),
    pytest.mark.skipif(bool(ABSENT), reason=ABSENT),
]


def driver(client: str) -> MountDriver:
    values = {
        "apiVersion": "runtime.fluidpy.io/v1",
        "kind": "mount",
        "name": "thin",
        "version": "1",
        "mount": {"contract": "fluid", "command": [f"./{client}"], "filesystemType": "fuse.sshfs"},
    }
    return MountDriver(Manifest.model_validate(values, by_alias=True), CLIENTS)


@pytest.mark.parametrize("client", ["by_sed.sh", "by_generated_script.sh", "by_python.py"])
def test_it_runs_unmodified(tmp_path: Path, client: str) -> None:
    folder = RUNTIMES / "sshfs"
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cats.bin").write_bytes(b"meow" * 1000)
    with test_bed(load_manifest(folder), folder, tmp_path / "store") as bed:
        point = bed.mount_point.removeprefix("sshfs://")
        hidden = [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "ssh", "key": name}}}
            for name in bed.secrets
        ]
        mount = {
            "mountPoint": point,
            "name": "nas",
            "options": {"port": str(bed.port)},
            "encryptOptions": hidden,
        }
        dataset = Dataset.model_validate(
            {"metadata": {"name": "pets"}, "spec": {"mounts": [mount]}}
        )
        place = RuntimePlace(tmp_path / "work", tmp_path / "mount" / "fuse", tmp_path / "cache")
        secrets = {("ssh", name): value for name, value in bed.secrets.items()}
        source = replace(bed.source(), url=point)
        request = RuntimeRequest(
            dataset, (MountDefinition("nas", "/nas", source),), place, secrets=secrets
        )
        made = driver(client)
        kept = made.prepare(request).clients[0].process
        write_files(kept.command.files)
        process = KeptProcess(tmp_path / "process")
        try:
            process.begin(order_of(kept))
            limit = time.monotonic() + 60
            while not process.seen().ready:
                assert not process.seen().failure, process.seen().failure
                assert time.monotonic() < limit, process.state()
                time.sleep(0.05)
            assert (place.target / "cats.bin").read_bytes() == b"meow" * 1000
            assert not Path("/etc/fluid/config").exists(), "its files are seen by it alone"
            last = process.end()
            assert last is not None
            assert not last.killed, "it ended when it was told to"
        finally:
            process.end()
            left = [one for one in mount_table() if one.mount_point.startswith(f"{tmp_path}/")]
            unmount_below(str(tmp_path))
        assert left == []
        assert processes_with("FLUIDPY_RUNTIME_PROCESS", str(process.directory)) == []
