from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.locate import Locator, locate_dataset
from fluidpy.errors import DatasetNotFoundError, ValidationError
from fluidpy.settings import Settings

DEAD_PID = 2**22 + 1  # above the kernel's largest pid (PID_MAX_LIMIT)


def _write(path: Path, name: str, namespace: str = "", source: str = "/") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    spelled = f", namespace: {namespace}" if namespace else ""
    path.write_text(
        "apiVersion: data.fluid.io/v1alpha1\n"
        "kind: Dataset\n"
        f"metadata: {{name: {name}{spelled}}}\n"
        f"spec: {{mounts: [{{name: data, path: /, mountPoint: 'local://{source}'}}]}}\n"
    )
    return path


def _mount(settings: Settings, name: str, pid: int, namespace: str = "default") -> None:
    settings.mounts_dir.mkdir(exist_ok=True)
    record = {"dataset": name, "namespace": namespace, "holderPid": pid}
    (settings.mounts_dir / f"{namespace}-{name}.json").write_text(json.dumps(record))


def _key(found: Any) -> str:
    return found if isinstance(found, str) else str(found.key)


def test_a_named_file_comes_first_and_alone(settings: Settings, tmp_path: Path) -> None:
    file = _write(tmp_path / "one.yaml", "one")
    _write(tmp_path / "folder/two.yaml", "two")
    environ = {"FLUIDPY_PATH": str(tmp_path / "folder")}
    assert _key(Locator(settings, file, environ=environ).find("one")) == "default/one"
    with pytest.raises(DatasetNotFoundError):
        Locator(settings, file, environ=environ).find("two")


def test_folders_are_looked_through_in_order_then_mounts(
    settings: Settings, tmp_path: Path
) -> None:
    _write(tmp_path / "a/one.yaml", "one", source=str(tmp_path))
    _write(tmp_path / "b/one.yaml", "one", source="/")
    _write(tmp_path / "b/two.yaml", "two")
    _mount(settings, "two", os.getpid())
    _mount(settings, "three", os.getpid())
    folders = os.pathsep.join(map(str, [tmp_path / "missing", tmp_path / "a", tmp_path / "b"]))
    locator = Locator(settings, environ={"FLUIDPY_PATH": folders})
    one: Any = locator.find("one")
    assert one.mounts[0].source.url == f"local://{tmp_path}"
    two: Any = locator.find("two")
    assert two.key == "default/two"
    assert locator.find("three") == "default/three"
    assert locator.names() == ["one", "three", "two"]


def test_a_mount_that_is_dead_is_not_found(settings: Settings) -> None:
    _mount(settings, "gone", DEAD_PID)
    settings.mounts_dir.joinpath("torn.json").write_text("{")
    with pytest.raises(DatasetNotFoundError):
        locate_dataset("gone", None, settings)


def test_namespaces_are_told_apart(settings: Settings, tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "one", "prod")
    _mount(settings, "two", os.getpid(), "x")
    _mount(settings, "two", os.getpid(), "y")
    locator = Locator(settings, environ={"FLUIDPY_PATH": str(tmp_path)})
    assert _key(locator.find("one")) == _key(locator.find("one.prod")) == "prod/one"
    assert locator.find("two.y") == "y/two"
    with pytest.raises(DatasetNotFoundError):
        locator.find("one.dev")
    with pytest.raises(ValidationError, match=r"from several namespaces: two\.x, two\.y"):
        locator.find("two")


def test_what_was_not_found_says_where_and_what_is_near(settings: Settings, tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "imagenet")
    (tmp_path / "b.yaml").write_text("kind: [")
    locator = Locator(settings, environ={"FLUIDPY_PATH": str(tmp_path)})
    with pytest.raises(DatasetNotFoundError) as caught:
        locator.find("imagnet")
    said = str(caught.value)
    assert f"looked in {tmp_path}; the Datasets that are mounted" in said
    assert "b.yaml is not valid" in said
    assert said.endswith("Did you mean imagenet?")


def test_a_wrong_file_that_was_named_is_a_validation_error(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("apiVersion: data.fluid.io/v1alpha1\nkind: Datasett\nmetadata: {name: a}\n")
    with pytest.raises(ValidationError, match=r"wrong\.yaml"):
        Locator(settings, file).find("a")
