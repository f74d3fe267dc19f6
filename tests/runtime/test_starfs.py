"""The plug-in of `runtimes/starfs`, on a real distributed file system beside other stores."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidpy.client.connection import close_connections
from fluidpy.filesystem import FluidFileSystem
from fluidpy.testing.servers.moosefs import MooseServer, moosefs, moosefs_missing
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.cli.conftest import CommandLine, command_line_in

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "runtimes" / "starfs"
OLD = 1_700_000_000


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line of a user who has installed no plug-in; its worker ends with it."""
    with command_line_in(tmp_path) as line:
        line.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
        yield line


@pytest.fixture
def machine(bare: CommandLine) -> CommandLine:
    """The same with StarFS."""
    bare.done("runtime", "install", PLUGIN)
    return bare


@pytest.mark.slow
def test_it_conforms(bare: CommandLine) -> None:
    report = bare.run("runtime", "test", PLUGIN, timeout=110).stdout.decode()
    assert "starfs 1.0.0 conforms" in report
    assert "FAILED" not in report


def test_its_example_is_valid_once_it_is_installed(bare: CommandLine) -> None:
    example = PLUGIN / "dataset.yaml"
    before = bare.run("validate", "-f", example)
    assert before.returncode == 1
    assert b"no driver for starfs://" in before.stdout
    bare.done("runtime", "install", PLUGIN)
    bare.done("validate", "-f", example)
    assert "starfs" in bare.done("runtime", "list", "-o", "name").split()
    bare.done("runtime", "remove", "starfs")


@pytest.fixture
def store() -> Iterator[tuple[MooseServer, Path]]:
    """MooseFS, and where it is mounted."""
    if reason := moosefs_missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="moosefs-") as scratch:
        base = Path(scratch)
        with moosefs(base / "store") as server, server.mounted(base / "mnt") as target:
            yield server, target


@pytest.fixture
def declared(
    tmp_path: Path,
    store: tuple[MooseServer, Path],
    seaweedfs_server: SeaweedServer,
    bucket: str,
) -> tuple[Path, dict[str, bytes]]:
    """A Dataset that unites three stores, and every file it must show."""
    files = {
        f"{place}/{name}": hashlib.sha256(f"{place}/{name}".encode()).digest() * count
        for place in ("bucket", "nas", "star")
        for name, count in (("a.bin", 1), ("deep/b.bin", 40_000), ("deep/c ü.bin", 3000))
    }
    for place, root in (("nas", tmp_path / "nas"), ("star", store[1] / "train")):
        for path, data in _below(files, place).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
            os.utime(root / path, (OLD, OLD))
    seaweedfs_server.put_objects(bucket, _below(files, "bucket"))
    file = tmp_path / "union.yaml"
    file.write_text(
        _YAML.format(
            bucket=bucket,
            endpoint=seaweedfs_server.endpoint,
            key=seaweedfs_server.access_key,
            secret=seaweedfs_server.secret_key,
            nas=tmp_path / "nas",
            star=store[1],
        )
    )
    return file, files


def _below(files: dict[str, bytes], place: str) -> dict[str, bytes]:
    start = f"{place}/"
    return {path.removeprefix(start): d for path, d in files.items() if path.startswith(start)}


_YAML = """\
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{key: "{key}", secret: "{secret}", token: star-token}}
---
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata: {{name: union}}
spec:
  mounts:
    - name: bucket
      mountPoint: s3://{bucket}
      options: {{endpoint: "{endpoint}", region: us-east-1}}
      encryptOptions:
        - {{name: access_key_id, valueFrom: {{secretKeyRef: {{name: keys, key: key}}}}}}
        - {{name: secret_access_key, valueFrom: {{secretKeyRef: {{name: keys, key: secret}}}}}}
    - {{name: nas, mountPoint: "local://{nas}"}}
    - name: star
      mountPoint: starfs://cluster/train
      options: {{root: "{star}"}}
      encryptOptions:
        - {{name: token, valueFrom: {{secretKeyRef: {{name: keys, key: token}}}}}}
"""


def _tree(root: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*") if one.is_file()
    }


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_dataset_unites_bucket_nas_and_starfs(
    machine: CommandLine,
    declared: tuple[Path, dict[str, bytes]],
    store: tuple[MooseServer, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, files = declared
    server, _ = store
    target = machine.directory / "mounted"
    target.mkdir()
    machine.done("load", "-f", file, "--path", "/star/deep/b.bin", "--path", "/bucket")
    machine.done("mount", "-f", file, target)
    try:
        server.kill_chunkserver()
        # What is warm is read from the cache; what is not waits until the store is back.
        assert (target / "star/deep/b.bin").read_bytes() == files["star/deep/b.bin"]
        with ThreadPoolExecutor(4) as readers:
            waiting = readers.submit((target / "star/deep/c ü.bin").read_bytes)
            again = [readers.submit((target / "bucket/a.bin").read_bytes) for _ in range(20)]
            assert {one.result(30) for one in again} == {files["bucket/a.bin"]}
            server.start_chunkserver()
            assert waiting.result(60) == files["star/deep/c ü.bin"]
        assert _tree(target) == files
        assert _by_url(machine, file, monkeypatch) == files
        listed = machine.done("cache", "ls", "-f", file, "/star", "-o", "name").split("\n")
        assert "star/deep/b.bin" in {line.strip("/") for line in listed}
        assert "star-token" not in (_log(machine))
    finally:
        machine.done("umount", target)


def _by_url(machine: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    for name, value in machine.environment.items():
        if name.startswith("FLUIDPY_"):
            monkeypatch.setenv(name, value)
    fs = FluidFileSystem(file=str(file))
    try:
        paths = fs.find("union")
        return {path.removeprefix("union/"): fs.cat_file(path) for path in paths}
    finally:
        close_connections()
        FluidFileSystem.clear_instance_cache()


def _log(machine: CommandLine) -> str:
    return (Path(machine.environment["FLUIDPY_RUNTIME_DIR"]) / "worker.log").read_text()
