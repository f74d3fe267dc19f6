"""Storage plug-ins that come with a package, by an entry point of `fluidpy.runtimes`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.cli.doctor_plugins import check_plugins
from fluidpy.errors import SourceConfigurationError
from fluidpy.runtime.discovery import discover
from fluidpy.settings import load_settings
from fluidpy.storage import plugins
from fluidpy.storage.plugins import (
    PluginsIn,
    installed_plugins,
    load_plugin_class,
    problem_of_packages,
    with_plugin_options,
)
from fluidpy.storage.source_check import check_source
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


def add_package(folder: Path, name: str, value: str, code: str) -> None:
    """A package with an entry point, beside others."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    facts = folder / f"{name}-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[fluidpy.runtimes]\n{name} = {value}\n")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("bad.plugin", "raise RuntimeError('no driver of it is here')"),
        ("bad.plugin", "print('hello')"),
        ("nowhere.plugin", ""),
        ("", ""),
    ],
)
def test_a_bad_package_hides_no_other(
    packages: Path, monkeypatch: pytest.MonkeyPatch, value: str, code: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    add_package(packages, "bad", value, code)
    monkeypatch.syspath_prepend(str(packages))
    assert "wonder" in {one.name for one in installed_plugins([])}
    found = discover(load_settings())
    assert "wonder" in found.plugins
    assert any("bad: its entry point bad" in one for one in found.problems)
    assert capfd.readouterr() == ("", "")


def test_what_python_prints_at_its_start_is_no_part_of_the_answer(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (packages / "sitecustomize.py").write_text("print('welcome')\n")
    monkeypatch.syspath_prepend(str(packages))
    assert "wonder" in {one.name for one in installed_plugins([])}


def test_packages_that_cannot_be_read_are_told_once_and_hide_nothing(
    packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = "import os, sys; print('out of luck', file=sys.stderr, flush=True); os._exit(3)\n"
    (packages / "sitecustomize.py").write_text(broken)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # which would be a change of the folder
    monkeypatch.syspath_prepend(str(packages))
    with caplog.at_level("WARNING"):
        assert installed_plugins([]) == installed_plugins([]) == []
    assert [one.message for one in caplog.records] == [problem_of_packages()]
    assert problem_of_packages().endswith("cannot be read: out of luck")
    assert problem_of_packages() in [one.message for one in check_plugins(load_settings())]


def test_packages_are_not_asked_for_what_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_: object) -> list[plugins.InstalledPlugin]:
        raise AssertionError

    monkeypatch.setattr(plugins, "installed_plugins", ask)
    settings = load_settings()
    known = PluginsIn(tuple(settings.plugin_folders))
    for url in (f"local://{tmp_path}", "s3://bucket/folder", "https://host/folder"):
        check_source(MountSource(url, "m", {}, {}), settings, plugins=known)
    with pytest.raises(AssertionError):
        check_source(MountSource("wonder://c", "m", {}, {}), settings, plugins=known)


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
