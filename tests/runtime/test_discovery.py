"""Which plug-in serves which object, and what the folder of plug-ins holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fluidpy.api.document import load_valid_documents
from fluidpy.api.metadata import Resource
from fluidpy.runtime.discovery import Plugin, driver_of, plugin_for
from fluidpy.runtime.driver import Desired, EmbeddedDriver, RuntimeDriver, Seen
from fluidpy.runtime.manifest import Manifest, load_manifest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent for file in (ROOT / "runtimes").glob("*/runtime.yaml"))


def _plugin(name: str, **section: object) -> Plugin:
    (kind,) = section
    values = {
        "apiVersion": "runtime.fluidpy.io/v1",
        "kind": kind,
        "name": name,
        "version": "1",
        **section,
    }
    return Plugin(Manifest.model_validate(values), Path("/nowhere"), "test")


PLUGINS = {
    one.name: one
    for one in (
        _plugin("starfs", storage={"protocols": ["starfs"], "class": "starfs:Star"}),
        _plugin("moose", mount={"command": ["m", "{target}"], "filesystemType": "fuse.mfs"}),
        _plugin("fish", mount={"command": ["f", "{target}"], "filesystemType": "fuse.sshfs"}),
        _plugin("juice", engine={"class": "juice:Driver", "runtimeKinds": ["JuiceFSRuntime"]}),
    )
}


def _objects(text: str) -> list[Resource]:
    head = "apiVersion: data.fluid.io/v1alpha1\nmetadata: {name: x%s}\n"
    documents = [head + one for one in text.split("---\n")]
    loaded = load_valid_documents("---\n".join(documents).replace("%s", ""))
    return [one.object for one in loaded.objects]


THIN = "kind: ThinRuntime\nspec: {profileName: %s}\n"
PROFILE = "kind: ThinRuntimeProfile\nspec: {fileSystemType: %s}\n"
CACHE = "kind: CacheRuntime\nspec: {runtimeClassName: %s}\n"
CLASS = "kind: CacheRuntimeClass\nfileSystemType: %s\n"


@pytest.mark.parametrize(
    ("text", "serves"),
    [
        (THIN.replace("%s", "moose"), "moose"),
        (THIN.replace("%s", "p") + "---\n" + PROFILE.replace("%s", "fuse.sshfs"), "fish"),
        (THIN.replace("%s", "p") + "---\n" + PROFILE.replace("%s", "fuse.other"), None),
        (THIN.replace("%s", "p"), None),
        (CACHE.replace("%s", "moose"), "moose"),
        (CACHE.replace("%s", "c") + "---\n" + CLASS.replace("%s", "fuse.mfs"), "moose"),
        (CACHE.replace("%s", "fluidpy"), None),
        ("kind: JuiceFSRuntime\n", "juice"),
        ("kind: AlluxioRuntime\n", None),
    ],
)
def test_a_runtime_object_chooses_its_plugin(text: str, serves: str | None) -> None:
    runtime, *profile = _objects(text)
    found = plugin_for(PLUGINS, runtime, profile[0] if profile else None)
    assert (found.name if found is not None else None) == serves


def test_a_profile_may_name_its_plugin_by_annotation() -> None:
    runtime, profile = _objects(f"{THIN}---\n{PROFILE}".replace("%s", "fish"))
    profile.metadata.annotations["fluidpy.io/plugin"] = "moose"
    found = plugin_for(PLUGINS, runtime, profile)
    assert found is not None
    assert found.name == "moose"
    assert plugin_for(PLUGINS, None, None) is None


def test_storage_plugins_are_read_by_the_worker_itself() -> None:
    driver = driver_of(PLUGINS["starfs"])
    assert isinstance(driver, EmbeddedDriver)
    assert isinstance(driver, RuntimeDriver)
    assert driver.desired(()) == Desired()
    assert driver.observe((), Seen()).ready
    assert driver_of(None).load((), ["/"]) == ()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_plugin_of_the_project_is_whole(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert manifest.description
    assert manifest.name == folder.name
    for name in ("Dockerfile", "README.md", "dataset.yaml"):
        assert (folder / name).is_file(), name
    assert re.search(r"^ARG BASE=.*\nFROM \$\{BASE\}", (folder / "Dockerfile").read_text(), re.M)
