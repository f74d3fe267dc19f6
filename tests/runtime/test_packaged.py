"""Storage plug-ins that come with a package, by an entry point of `fluidpy.runtimes`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.errors import SourceConfigurationError
from fluidpy.storage.plugins import installed_plugins, load_plugin_class, with_plugin_options
from fluidpy.storage.under_storage import MountSource
from tests.cli.conftest import CommandLine, command_line_in

POINT = "[fluidpy.runtimes]\nwonder = wonder_plugin\n"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        yield line


@pytest.fixture
def packages(line: CommandLine, tmp_path: Path) -> Path:
    """A folder of packages, as `pip install --target` fills one."""
    line.done("runtime", "init", "wonder", "--kind", "storage")
    package, facts = tmp_path / "packages" / "wonder_plugin", tmp_path / "packages/w-1.dist-info"
    package.parent.mkdir()
    (tmp_path / "wonder").rename(package)
    (package / "__init__.py").touch()
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: w\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(POINT)
    return package.parent


def test_it_is_known_with_its_options_and_can_be_loaded(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "wonder" not in {one.name for one in installed_plugins([])}
    monkeypatch.syspath_prepend(str(packages))
    (plugin,) = (one for one in installed_plugins([]) if one.name == "wonder")
    assert plugin.protocols == ("wonder",)
    with pytest.raises(SourceConfigurationError, match="root is missing"):
        with_plugin_options(plugin, MountSource("wonder://cluster", "m", {}, {}))
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert load_plugin_class(plugin).__name__ == "WonderFileSystem"


@pytest.mark.slow
def test_its_store_is_read_without_runtime_install(
    line: CommandLine, packages: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "file").write_bytes(b"content")
    line.environment["PYTHONPATH"] = os.pathsep.join([str(packages), *sys.path])
    found = line.run("cat", "fluid://w/file", "-f", declared(tmp_path, f"{{root: {store}}}"))
    assert found.stdout == b"content", found.stderr.decode()
    refused = line.run("cat", "fluid://w/file", "-f", declared(tmp_path, "{}"))
    assert refused.returncode != 0
    assert "root is missing" in refused.stderr.decode()


def declared(folder: Path, options: str) -> Path:
    file = folder / "dataset.yaml"
    file.write_text(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata: {name: w}\nspec:\n"
        f"  mounts: [{{mountPoint: 'wonder://c', name: m, path: /, options: {options}}}]\n"
    )
    return file
