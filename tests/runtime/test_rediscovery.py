"""Plug-ins are found as they are now, however often it is looked."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidpy.runtime.discovery import discover
from fluidpy.settings import Settings

MANIFEST = """\
apiVersion: runtime.fluidpy.io/v1
kind: storage
name: NAME
version: 0.1.0
storage:
  protocols: [wonder]
  class: wonder.filesystem:Wonder
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        cache_dir=tmp_path / "cache", runtime_dir=tmp_path / "run", state_dir=tmp_path / "state"
    )


def test_a_manifest_that_changes_is_read_again(settings: Settings) -> None:
    file = settings.plugins_dir / "seen_later" / "runtime.yaml"
    file.parent.mkdir(parents=True)
    for text, name in ((MANIFEST, "first"), (MANIFEST, "other"), ("kind: [", "")):
        file.write_text(text.replace("NAME", name))
        found = discover(settings)
        assert (name in found.plugins) == bool(name)
        assert bool(found.problems) != bool(name)
    file.unlink()
    assert discover(settings).problems == ()


def test_a_package_that_is_installed_meanwhile_is_found(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "packages"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    assert "seen-later" not in discover(settings).plugins
    package, facts = place / "seen_later", place / "seen_later-0.1.0.dist-info"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "runtime.yaml").write_text(MANIFEST.replace("NAME", "seen-later"))
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: seen-later\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[fluidpy.runtimes]\nseen_later = seen_later\n")
    assert discover(settings).plugins["seen-later"].origin == "seen-later"
