"""ThinRuntime on a mount plug-in, through the control plane: applied, read, killed, deleted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.cache.directory import mount_of
from fluidpy.control import linux_processes as linux
from fluidpy.runtime.installing import install
from tests.control.conftest import LocalControlPlane, local_control_plane, secret
from tests.control.test_life_of_a_dataset import await_true, phase, session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, as root")

CLIENT = """#!/bin/sh
# Shows a directory to whoever knows the word that is written in it.
set -eu
[ "$(cat "$3")" = "$(cat "$1/.word")" ] || { echo "wrong word $(cat "$3")"; exit 1; }
mount --bind "$1" "$2"
exec sleep 100000
"""
MANIFEST = """
apiVersion: runtime.fluidpy.io/v1
kind: mount
name: bindfs
version: 0.1.0
options: [{name: word, secret: true, required: true}]
mount:
  command: [./client.sh, "{source}", "{target}", "{secretFile.word}"]
  filesystemType: TYPE
  protocols: [bind]
"""
WORD = "open sesame 22"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "cats").mkdir(parents=True)
    (source / ".word").write_text(WORD)
    (source / "cats" / "1.bin").write_bytes(b"meow" * 50_000)
    os.utime(source / "cats" / "1.bin", (1_700_000_000,) * 2)
    return source


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    folder = tmp_path / "bindfs"
    folder.mkdir()
    kind = mount_of(str(tmp_path), linux.mount_table())
    assert kind is not None
    (folder / "runtime.yaml").write_text(MANIFEST.replace("TYPE", kind.kind))
    (folder / "client.sh").write_text(CLIENT)
    (folder / "client.sh").chmod(0o755)
    install(folder, tmp_path / "state" / "runtimes")
    with local_control_plane(tmp_path) as control:
        yield control
    assert left(control) == []


def left(control: LocalControlPlane) -> list[str]:
    """Mounts and processes below the control plane's directory."""
    runtime = str(control.settings.runtime_dir)
    mounts = [one.mount_point for one in linux.mount_table() if runtime in one.mount_point]
    environs = Path("/proc").glob("[0-9]*/environ")
    return mounts + [str(path) for path in environs if _has(path, runtime)]


def _has(path: Path, text: str) -> bool:
    try:
        return f"FLUIDPY_RUNTIME_PROCESS={text}".encode() in path.read_bytes()
    except OSError:
        return False


def apply(
    control: LocalControlPlane, source: Path, word: str = WORD, *more: dict[str, Any]
) -> None:
    meta = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": "pets"}}
    reference = {"secretKeyRef": {"name": "door", "key": "word"}}
    mount = {
        "mountPoint": f"bind://{source}",
        "name": "pets",
        "encryptOptions": [{"name": "word", "valueFrom": reference}],
    }
    runtime: dict[str, Any] = {"profileName": "bindfs"}
    control.client.create("secrets", "default", secret("door", word=word))
    control.client.create(
        "thinruntimes", "default", {**meta, "kind": "ThinRuntime", "spec": runtime}
    )
    control.client.create(
        "datasets", "default", {**meta, "kind": "Dataset", "spec": {"mounts": [mount, *more]}}
    )


def client_pid(control: LocalControlPlane) -> int:
    directory = control.settings.runtime_dir / "runtimes/default/pets/processes/bindfs"
    (pid,) = linux.processes_with("FLUIDPY_RUNTIME_PROCESS", str(directory))
    return pid


def said(control: LocalControlPlane, word: str) -> str:
    """A message of the Dataset's conditions that has a word in it."""
    status = control.client.get("datasets", "default", "pets").get("status", {})
    messages = (one["message"] for one in status.get("conditions", ()))
    return next((message for message in messages if word in message), "")


def test_a_dataset_is_read_through_a_plug_ins_mount_until_it_is_deleted(
    control: LocalControlPlane, source: Path
) -> None:
    apply(control, source)
    await_true(lambda: phase(control) == "Bound", 60)
    with session(control) as pets:
        assert pets.read("cats/1.bin") == b"meow" * 50_000
        os.kill(client_pid(control), signal.SIGKILL)
        assert pets.read("cats/1.bin") == b"meow" * 50_000, "it is cached, or read again"
        control.kill()
        assert pets.read(".word") == WORD.encode()
        control.up()
    status = control.client.get("thinruntimes", "default", "pets")["status"]
    assert "EngineSubstituted" not in {one["type"] for one in status["conditions"]}
    control.client.delete("datasets", "default", "pets")
    await_true(lambda: not control.client.list_objects("datasets")["items"], 60)
    assert left(control) == []


@pytest.mark.slow
def test_a_mounted_store_and_a_directory_are_one_tree_that_others_refer_to(
    control: LocalControlPlane, source: Path, tmp_path: Path
) -> None:
    nas = tmp_path / "nas"
    nas.mkdir()
    (nas / "labels.csv").write_text("1,cat")
    apply(control, source, WORD, {"mountPoint": f"local://{nas}", "name": "nas"})
    reference = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "same"},
        "spec": {"mounts": [{"mountPoint": "dataset://default/pets", "name": "same"}]},
    }
    control.client.create("datasets", "default", reference)
    for name in ("pets", "same"):
        await_true(lambda name=name: phase(control, name) == "Bound", 60)  # type: ignore[misc]  # bound at once
        with session(control, name) as tree:
            assert tree.read("pets/cats/1.bin") == b"meow" * 50_000
            assert tree.read("nas/labels.csv") == b"1,cat"


@pytest.mark.slow
def test_what_the_client_says_is_told_without_its_secrets(
    control: LocalControlPlane, source: Path
) -> None:
    apply(control, source, word="a wrong word 33")

    message = await_true(lambda: said(control, "bindfs ended"), 60)
    assert "exit status 1" in message
    assert 'it said last: "wrong word ***"' in message
    for file in control.settings.runtime_dir.rglob("*.log"):
        assert "a wrong word 33" not in file.read_text()


@pytest.mark.slow
def test_a_profile_that_no_plug_in_serves_is_told(control: LocalControlPlane, source: Path) -> None:
    meta = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": "pets"}}
    spec = {"profileName": "starfs"}
    control.client.create("thinruntimes", "default", {**meta, "kind": "ThinRuntime", "spec": spec})
    mounts = [{"mountPoint": "starfs://cluster/pets", "name": "pets"}]
    control.client.create(
        "datasets", "default", {**meta, "kind": "Dataset", "spec": {"mounts": mounts}}
    )

    told = await_true(lambda: said(control, "starfs"), 60)
    assert "No mount plug-in starfs is installed here" in told
