"""apply, get, describe, delete on a real control plane: kubectl's words, columns, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fluidpy.cli.apply import keep_scale
from tests.cli.conftest import CommandLine, command_line_in, write_dataset
from tests.control.conftest import LocalControlPlane, local_control_plane
from tests.control.test_life_of_a_dataset import await_true


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path) as control:
        yield control


@pytest.fixture
def line(control: LocalControlPlane, tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        line.environment |= {
            "FLUIDPY_RUNTIME_DIR": str(control.settings.runtime_dir),
            "FLUIDPY_STATE_DIR": str(control.settings.state_dir),
        }
        yield line


RUNTIME = """
apiVersion: data.fluid.io/v1alpha1
kind: AlluxioRuntime
metadata: {name: pets, labels: {team: vision}}
spec:
  replicas: 2
  properties: {alluxio.user.token: hush}
"""
LOAD = """
apiVersion: data.fluid.io/v1alpha1
kind: DataLoad
metadata: {name: warm}
spec: {dataset: {name: pets, namespace: default}}
"""


def failed(line: CommandLine, *words: str | Path, code: int = 1) -> str:
    finished: subprocess.CompletedProcess[bytes] = line.run(*words)
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stderr.decode()


@pytest.fixture
def pets(tmp_path: Path, tree: Path) -> Path:
    file = write_dataset(tmp_path / "pets.yaml", f"local://{tree}")
    file.write_text(f"{LOAD}---{RUNTIME}---\n{file.read_text()}")
    return file


def test_apply_says_what_became_of_each_object(line: CommandLine, pets: Path) -> None:
    assert line.done("apply", "-f", pets).splitlines() == [
        "dataset.data.fluid.io/pets created",
        "alluxioruntime.data.fluid.io/pets created",
        "dataload.data.fluid.io/warm created",
    ]
    assert line.done("apply", "-f", pets).split() == [
        "dataset.data.fluid.io/pets", "unchanged",
        "alluxioruntime.data.fluid.io/pets", "unchanged",
        "dataload.data.fluid.io/warm", "unchanged",
    ]  # fmt: skip
    pets.write_text(pets.read_text().replace("team: vision", "team: audio"))
    assert "alluxioruntime.data.fluid.io/pets configured" in line.done("apply", "-f", pets)
    assert line.done("get", "alluxio", "-l", "team=audio", "-o", "name").split() == [
        "alluxioruntime.data.fluid.io/pets"
    ]
    assert line.done("get", "alluxio", "-l", "team=vision", "-o", "name") == ""


def test_a_dry_run_changes_nothing(line: CommandLine, pets: Path) -> None:
    shown = line.done("apply", "-f", pets, "--dry-run", "server")
    assert "dataset.data.fluid.io/pets created (server dry run)" in shown
    assert line.done("get", "fluid") == ""


def test_every_mistake_of_all_files_is_told_and_nothing_changes(
    line: CommandLine, pets: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        LOAD.replace("warm", "nightly").replace(
            "namespace: default}", 'namespace: default}, policy: Cron, schedule: "* * * * *"'
        )
        + "---\napiVersion: data.fluid.io/v1alpha1\nkind: DataBackup\nmetadata: {name: save}\n"
        "spec: {dataset: pets, backupPath: 'local:///b'}\n"
    )
    told = failed(line, "apply", "-f", pets, "-f", bad)
    assert f"{bad}:5:" in told
    assert "spec.policy: Cron is not carried out" in told
    assert f"{bad}:8:" in told
    assert "DataBackup is not carried out" in told
    assert "Nothing was changed" in told
    assert line.done("get", "fluid") == ""
    bad.write_text(pets.read_text().replace("mountPoint", "mountPiont"))
    assert "did you mean 'mountPoint'" in failed(line, "apply", "-f", bad)


def test_a_refused_edit_leaves_the_object_as_it_was(line: CommandLine, pets: Path) -> None:
    line.done("apply", "-f", pets)
    before = line.done("get", "dataset", "pets", "-o", "json")
    good = pets.read_text()
    pets.write_text(good.replace("path: /\n", "path: /\n    - {mountPoint: 'nowhere', name: b}\n"))
    assert "pets.yaml" in failed(line, "apply", "-f", pets)
    after = line.done("get", "dataset", "pets", "-o", "json")
    assert json.loads(after)["spec"] == json.loads(before)["spec"]


def test_what_scale_set_outlives_an_apply_that_says_nothing_of_it() -> None:
    old = {
        "metadata": {"annotations": {"fluidpy.io/drain": "worker-1", "other": "x"}},
        "spec": {"worker": {"replicas": 4}},
    }
    silent: dict[str, Any] = {"metadata": {}, "spec": {"runtimeClassName": "fluidpy"}}
    keep_scale(silent, old)
    assert silent["spec"] == {"runtimeClassName": "fluidpy", "worker": {"replicas": 4}}
    assert silent["metadata"] == {"annotations": {"fluidpy.io/drain": "worker-1"}}
    spoken: dict[str, Any] = {"metadata": {}, "spec": {"worker": {"replicas": 2}}}
    keep_scale(spoken, old)
    assert spoken["spec"] == {"worker": {"replicas": 2}}


def test_get_prints_fluids_columns(line: CommandLine, pets: Path) -> None:
    line.done("apply", "-f", pets)
    heading, row = line.done("get", "dataset").splitlines()
    assert re.split(" {3,}", heading) == [
        *("NAME", "UFS TOTAL SIZE", "CACHED", "CACHE CAPACITY", "CACHED PERCENTAGE"),
        *("PHASE", "AGE"),
    ]
    assert row.startswith("pets ")
    assert row.split()[-1].endswith("s")
    assert "TOTAL FILES" in line.done("get", "datasets", "pets", "-o", "wide")
    assert "NAMESPACE" in line.done("get", "Dataset", "-A")
    (bare,) = line.done("get", "dataset.data.fluid.io", "--no-headers").splitlines()
    assert bare.startswith("pets")


def test_get_for_programs(line: CommandLine, pets: Path) -> None:
    line.done("apply", "-f", pets)
    one = json.loads(line.done("get", "dataset/pets", "-o", "json"))
    assert (one["kind"], one["metadata"]["generation"]) == ("Dataset", 1)
    several = yaml.safe_load(line.done("get", "dataset", "-o", "yaml"))
    assert (several["kind"], len(several["items"])) == ("List", 1)
    assert line.done("get", "fluid", "-o", "name").split() == [
        "dataset.data.fluid.io/pets",
        "alluxioruntime.data.fluid.io/pets",
        "dataload.data.fluid.io/warm",
    ]
    assert json.loads(line.done("get", "migrate", "-o", "json"))["items"] == []


def test_get_all_kinds_names_them(line: CommandLine, pets: Path) -> None:
    line.done("apply", "-f", pets)
    text = line.done("get", "fluid")
    assert "dataset.data.fluid.io/pets" in text
    assert "\n\nNAME" in text


def test_what_is_not_there(line: CommandLine) -> None:
    finished = line.run("get", "dataset")
    assert finished.returncode == 0
    assert b"No resources found in default namespace." in finished.stderr
    assert "there is no datasets nothing" in failed(line, "get", "dataset", "nothing")
    assert "there is no kind 'datset'" in failed(line, "get", "datset", code=2)
    assert "dataset" in failed(line, "get", "datset", code=2)
    failed(line, "get", code=2)
    failed(line, "apply", code=2)
    failed(line, "delete", "dataset", code=2)
    failed(line, "delete", "dataset", "nothing")
    line.done("delete", "dataset", "nothing", "--ignore-not-found")


def test_describe_says_all_in_words(line: CommandLine, pets: Path) -> None:
    line.done("apply", "-f", pets)
    lines = line.done("describe", "dataset", "pets").splitlines()
    assert lines[0].split() == ["Name:", "pets"]
    assert "Spec:" in lines
    assert any(text.split() == ["Path:", "/"] for text in lines)
    assert any(text.startswith("    Mount Point:") for text in lines)
    assert any(text.startswith("Events:") for text in lines)
    assert "team=vision" in line.done("describe", "alluxio/pets")


def test_a_secret_is_never_given_out(line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "key.yaml"
    file.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {k: hush}\n")
    assert line.done("apply", "-f", file) == "secret/key created\n"
    assert line.done("apply", "-f", file) == "secret/key unchanged\n"
    for words in (["get", "secret", "key", "-o", "yaml"], ["describe", "secret", "key"]):
        text = line.done(*words)
        assert "hush" not in text
        assert "aHVzaA" not in text
    shown = line.done("apply", "-f", file, "-o", "json")
    assert "hush" not in shown


def test_delete_by_name_and_by_file(line: CommandLine, pets: Path) -> None:
    line.done("apply", "-f", pets)
    assert line.done("delete", "load", "warm") == 'dataload.data.fluid.io "warm" deleted\n'
    told = failed(line, "delete", "-f", pets, "--no-wait")
    assert "there is no dataloads warm" in told
    assert line.done("get", "alluxio", "-o", "name") == ""


def test_another_namespace(line: CommandLine, pets: Path) -> None:
    named = pets.parent / "named.yaml"
    named.write_text(RUNTIME.replace("name: pets,", "name: pets, namespace: audio,"))
    told = failed(line, "apply", "-f", named, "-n", "vision", code=2)
    assert "the namespace of pets is audio, and -n says vision" in told
    runtime = pets.parent / "runtime.yaml"
    runtime.write_text(RUNTIME)
    line.done("apply", "-f", runtime, "-n", "vision")
    assert line.done("get", "alluxio", "-o", "name") == ""
    assert "pets" in line.done("get", "alluxio", "-n", "vision", "-o", "name")


def test_a_watch_prints_each_change(
    line: CommandLine, control: LocalControlPlane, pets: Path
) -> None:
    watch = subprocess.Popen(
        [sys.executable, "-m", "fluidpy", "get", "alluxio", "-w", "-o", "name"],
        stdout=subprocess.PIPE,
        env=line.environment,
    )
    assert watch.stdout is not None
    try:
        line.done("apply", "-f", pets)
        assert b"alluxioruntime.data.fluid.io/pets" in watch.stdout.readline()
        pets.write_text(pets.read_text().replace("team: vision", "team: audio"))
        line.done("apply", "-f", pets)
        assert b"pets" in watch.stdout.readline()
    finally:
        watch.terminate()
        watch.wait(10)
        watch.stdout.close()


def test_status_tells_the_workers_of_the_pool(
    line: CommandLine, control: LocalControlPlane, pets: Path
) -> None:
    assert "no workers: no Dataset is applied" in line.done("status")
    line.done("apply", "-f", pets)
    await_true(lambda: [w["state"] for w in control.client.status()["workers"]] == ["Ready"] * 2)
    text = line.done("status")
    assert "none runs" not in text
    assert f"control plane: process {control.pid}" in text
    heading, *rows = text.partition("control plane")[2].splitlines()[1:]
    assert heading.split()[:3] == ["WORKER", "STATE", "PROCESS"]
    assert [row.split()[:2] for row in rows] == [["worker-0", "Ready"], ["worker-1", "Ready"]]
    workers = json.loads(line.done("status", "-o", "json"))["workers"]
    assert [one["name"] for one in workers] == ["worker-0", "worker-1"]
    asked = {"pid", "address", "state", "usedBytes", "capacityBytes", "datasets"}
    assert all(asked <= set(one) for one in workers)


def test_without_a_control_plane_it_says_how_to_start_one(tmp_path: Path, pets: Path) -> None:
    with command_line_in(tmp_path) as alone:
        for words in (["get", "dataset"], ["apply", "-f", str(pets)], ["delete", "dataset", "x"]):
            told = failed(alone, *words)
            assert "no control plane runs" in told
            assert "fluidpy up" in told
