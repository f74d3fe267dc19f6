"""`fluidpy runtime`: what its commands refuse, and what they say then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, command_line_in


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        line.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
        yield line


@pytest.mark.parametrize("kind", ["storage", "mount"])
def test_init_writes_a_plugin_that_is_valid(kind: str, line: CommandLine) -> None:
    line.done("runtime", "init", "my-store", "--kind", kind)
    line.done("runtime", "install", "my-store")
    assert "my-store" in line.done("runtime", "list", "-o", "name").split()


def test_init_overwrites_nothing_and_takes_no_odd_name(line: CommandLine) -> None:
    (line.directory / "there").mkdir()
    for name, said in (("there", b"is there already"), ("My_Store", b"is no DNS label")):
        done = line.run("runtime", "init", name)
        assert done.returncode == 2
        assert said in done.stderr
    assert [*(line.directory / "there").iterdir()] == []


def test_a_missing_field_of_the_manifest_is_told_with_its_place(line: CommandLine) -> None:
    line.done("runtime", "init", "mystore")
    manifest = line.directory / "mystore" / "runtime.yaml"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(one for one in lines if "class:" not in one))
    done = line.run("runtime", "test", "mystore")
    assert done.returncode == 1
    assert b"runtime.yaml:14:3: storage.class: is required; add the field" in done.stderr
    assert b"cure: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_plugin_without_a_way_to_be_tested_is_told(line: CommandLine) -> None:
    line.done("runtime", "init", "mystore")
    manifest = line.directory / "mystore" / "runtime.yaml"
    manifest.write_text(manifest.read_text().partition("conformance:")[0])
    done = line.run("runtime", "test", "mystore")
    assert done.returncode == 1
    assert b"Add a section 'conformance'" in done.stderr


def test_what_is_not_installed_cannot_be_removed(line: CommandLine) -> None:
    done = line.run("runtime", "remove", "nothing")
    assert done.returncode == 1
    assert b"no plug-in nothing is installed" in done.stderr
