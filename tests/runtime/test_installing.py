"""Plug-ins are installed at once or not at all, found, checked against and forgotten."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.cli.doctor_plugins import check_plugins
from fluidpy.errors import RuntimePluginError, SourceConfigurationError, ValidationError
from fluidpy.runtime.discovery import discover, plugin_named
from fluidpy.runtime.installing import install, remove
from fluidpy.runtime.storage_template import storage_files
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.plugins import installed_plugins, with_plugin_options
from fluidpy.storage.under_storage import Kind, MountSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plug-in as `runtime init` writes it."""
    return write_plugin(tmp_path / "written" / "starfs")


def write_plugin(folder: Path, scheme: str = "") -> Path:
    folder.mkdir(parents=True)
    for path, text in storage_files(scheme or folder.name).items():
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        cache_dir=tmp_path / "c", runtime_dir=tmp_path / "r", state_dir=tmp_path / "state"
    )


def _versions(settings: Settings) -> dict[str, str]:
    return {one.name: one.version for one in installed_plugins(settings.plugin_folders)}


def _places(settings: Settings) -> list[str]:
    """Folders of files that are kept for plug-ins."""
    return [one.name for one in settings.state_dir.glob("runtime-files/*") if one.is_dir()]


def _bump(folder: Path, version: str) -> None:
    file = folder / "runtime.yaml"
    file.write_text(file.read_text().replace("version: 0.1.0", f"version: {version}"))


def test_a_plugin_is_installed_found_and_forgotten(folder: Path, settings: Settings) -> None:
    install(folder, settings.plugins_dir)
    shutil.rmtree(folder)
    found = discover(settings)
    assert found.problems == ()
    assert plugin_named(found, "starfs").origin == "installed"
    assert _versions(settings) == {"starfs": "0.1.0"}
    remove("starfs", settings.plugins_dir)
    assert "starfs" not in discover(settings).plugins
    assert _places(settings) == []
    with pytest.raises(RuntimePluginError, match="no plug-in starfs is installed"):
        remove("starfs", settings.plugins_dir)


def test_files_for_images_alone_are_left_out(folder: Path, settings: Settings) -> None:
    for place in ("packages", "wheels"):
        (folder / place).mkdir()
        for name in ("client.deb", "client.whl", "list.txt"):
            (folder / place / name).touch()
    install(folder, settings.plugins_dir)
    copy = settings.plugins_dir / "starfs" / "plugin"
    assert [one.name for one in (copy / "packages").iterdir()] == ["list.txt"]
    assert len(list((copy / "wheels").iterdir())) == 3


def test_another_version_takes_its_place_at_once(folder: Path, settings: Settings) -> None:
    install(folder, settings.plugins_dir)
    _bump(folder, "0.2.0")
    install(folder, settings.plugins_dir)
    assert _versions(settings) == {"starfs": "0.2.0"}
    assert len(_places(settings)) == 1


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("runtime.yaml", "kind: storage\n", "name: is required"),
        ("pyproject.toml", "[project\n", "cannot be read"),
        ("requirements.txt", "no-such-package @ file:///no/such/file\n", "could not be"),
    ],
)
def test_a_bad_plugin_changes_nothing(
    file: str, text: str, said: str, folder: Path, settings: Settings
) -> None:
    install(folder, settings.plugins_dir)
    _bump(folder, "0.2.0")
    if file == "requirements.txt":
        (folder / "pyproject.toml").unlink()
    (folder / file).write_text(text)
    with pytest.raises((ValidationError, RuntimePluginError), match=said):
        install(folder, settings.plugins_dir)
    assert _versions(settings) == {"starfs": "0.1.0"}


def test_what_a_killed_installation_left_is_removed_by_the_next(
    folder: Path, settings: Settings
) -> None:
    left = settings.state_dir / "runtime-files" / "starfs-abcdefgh"
    (left / "plugin").mkdir(parents=True)
    other = settings.state_dir / "runtime-files" / "starfs-mount-abcdefgh"
    other.mkdir()
    install(folder, settings.plugins_dir)
    assert not left.exists()
    assert other.exists()  # of a plug-in with another name


def test_folders_of_the_path_come_first(folder: Path, settings: Settings, tmp_path: Path) -> None:
    install(folder, settings.plugins_dir)
    _bump(folder, "0.3.0")
    settings = replace(settings, runtime_path=f"{folder.parent}:{tmp_path / 'nowhere'}")
    found = discover(settings)
    assert found.plugins["starfs"].manifest.version == "0.3.0"
    assert found.problems == (f"FLUIDPY_RUNTIME_PATH: {tmp_path / 'nowhere'} is no folder",)


def test_a_broken_plugin_hides_no_other(folder: Path, settings: Settings) -> None:
    install(folder, settings.plugins_dir)
    broken = settings.plugins_dir / "broken" / "plugin"
    broken.mkdir(parents=True)
    (broken / "runtime.yaml").write_text("name: broken\n")
    found = discover(settings)
    assert "starfs" in found.plugins
    assert any("kind: is required" in line for line in found.problems)


def test_a_record_that_is_torn_is_told_with_its_cure(settings: Settings) -> None:
    place = settings.plugins_dir / "starfs"
    place.mkdir(parents=True)
    (place / "installed.json").write_text('{"name": ')
    with pytest.raises(SourceConfigurationError, match="runtime remove starfs"):
        installed_plugins(settings.plugin_folders)


def test_options_are_checked_as_the_manifest_declares_them(
    folder: Path, settings: Settings
) -> None:
    install(folder, settings.plugins_dir)
    (plugin,) = installed_plugins(settings.plugin_folders)
    source = MountSource("starfs://c", "data", {"rot": "/x", "token": "abc"}, {})
    with pytest.raises(SourceConfigurationError) as raised:
        with_plugin_options(plugin, source)
    said = str(raised.value)
    assert "unknown option rot; did you mean root?" in said
    assert "token is a secret and stands in options" in said
    assert "root is missing" in said
    assert "abc" not in said
    good = MountSource("starfs://c", "data", {"root": "/x", "retries": "1"}, {"token": "abc"})
    assert with_plugin_options(plugin, good).options == {"root": "/x", "retries": "1"}


async def test_an_installed_plugin_is_a_source_like_any_other(
    folder: Path, settings: Settings, tmp_path: Path
) -> None:
    plugin = write_plugin(tmp_path / "other" / "sourcelike")
    install(plugin, settings.plugins_dir)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_bytes(b"hello")
    source = MountSource("sourcelike://cluster", "data", {"root": str(tmp_path / "data")}, {})
    storage = open_storage(source, settings)
    try:
        assert (await storage.stat("a.txt")).kind is Kind.FILE
        assert bytes(await storage.read("a.txt", 1, 4, b"")) == b"ell"
    finally:
        await storage.close()


def test_a_class_that_cannot_be_loaded_is_told_with_its_cure(
    settings: Settings, tmp_path: Path
) -> None:
    plugin = write_plugin(tmp_path / "other" / "unloadable")
    (plugin / "unloadable.py").write_text("import no_such_module_anywhere\n")
    install(plugin, settings.plugins_dir)
    with pytest.raises(SourceConfigurationError, match="no_such_module_anywhere"):
        open_storage(MountSource("unloadable://c", "data", {"root": "/"}, {}), settings)


def test_the_record_holds_what_the_worker_needs(folder: Path, settings: Settings) -> None:
    install(folder, settings.plugins_dir)
    record = json.loads((settings.plugins_dir / "starfs" / "installed.json").read_text())
    assert record["class"] == "starfs:StarfsFileSystem"
    assert [one["name"] for one in record["options"]] == ["root", "token"]


def test_a_kill_at_any_moment_leaves_one_whole_version(folder: Path, settings: Settings) -> None:
    """Killed at one system call after another, until an installation comes to its end."""
    install(folder, settings.plugins_dir)
    _bump(folder, "0.2.0")
    seen = set()
    for moment in range(1, 10_000, 13):
        finished = _install_and_die(folder, settings, moment)
        (plugin,) = installed_plugins(settings.plugin_folders)
        seen.add(plugin.version)
        manifest = plugin_named(discover(settings), "starfs").manifest
        assert manifest.version == plugin.version
        assert (plugin.path[0] / "starfs.py").read_text()
        if finished:
            break
    assert seen == {"0.1.0", "0.2.0"}
    install(folder, settings.plugins_dir)
    assert len(_places(settings)) == 1


def _install_and_die(folder: Path, settings: Settings, moment: int) -> bool:
    """Installs in a fork that is killed at its `moment`th audited event; whether it ended first."""
    child = os.fork()
    if child == 0:
        left = moment

        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            install(folder, settings.plugins_dir)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def test_two_installations_at_once_leave_one_whole_version(
    folder: Path, settings: Settings
) -> None:
    with ThreadPoolExecutor(4) as many:
        for _ in many.map(lambda _: install(folder, settings.plugins_dir), range(8)):
            pass
    assert _versions(settings) == {"starfs": "0.1.0"}
    assert len(_places(settings)) == 1


async def test_a_plugin_may_be_an_under_storage_of_its_own(
    settings: Settings, tmp_path: Path
) -> None:
    plugin = write_plugin(tmp_path / "other" / "ownstorage")
    (plugin / "ownstorage.py").write_text(
        "from fluidpy.storage.local import LocalStorage\n"
        "def made(source, settings):\n"
        "    return LocalStorage(source.options['root'], 'own', threads=4, deadline_seconds=5)\n"
    )
    manifest = plugin / "runtime.yaml"
    manifest.write_text(manifest.read_text().replace("OwnstorageFileSystem", "made"))
    install(plugin, settings.plugins_dir)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_bytes(b"hello")
    source = MountSource("ownstorage://c", "data", {"root": str(tmp_path / "data")}, {})
    storage = open_storage(source, settings)
    try:
        assert bytes(await storage.read("a.txt", 0, 5, b"")) == b"hello"
    finally:
        await storage.close()


def test_doctor_tells_of_a_broken_plugin_and_its_cure(folder: Path, settings: Settings) -> None:
    install(folder, settings.plugins_dir)
    (good,) = check_plugins(settings)
    assert "starfs" in good.message
    (settings.plugins_dir / "starfs" / "installed.json").write_text("{")
    (settings.plugins_dir / "starfs" / "plugin" / "runtime.yaml").write_text("name: starfs\n")
    told = [f"{one.message} {one.cure}" for one in check_plugins(settings)]
    assert any("kind: is required" in text for text in told)
    assert any("runtime remove starfs" in text for text in told)
