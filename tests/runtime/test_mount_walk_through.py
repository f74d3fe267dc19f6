"""The mount plug-in of docs/runtimes.md, made, proven, installed and read as it is written."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.control.linux_processes import mount_table, unmount_below
from tests.cli.conftest import CommandLine, command_line_in
from tests.runtime.test_mount_plugins import AUTHORS_LINES, missing
from tests.runtime.test_walk_through import PAGE, _edited

ABSENT = missing("bindfs", "fusermount3")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(ABSENT), reason=ABSENT),
]

CLIENT = """#!/bin/sh
# Stands for the client of a store that is not public.
for word; do case "$word" in --root=*) root=${word#--root=} ;; --*) ;; *) target=$word ;; esac; done
exec bindfs -f -oro,attr_timeout=0,entry_timeout=0,negative_timeout=0 "$root" "$target"
"""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "starfs-client").write_text(CLIENT)
    (programs / "starfs-client").chmod(0o755)
    with command_line_in(tmp_path) as line:
        line.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
        line.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
        try:
            yield line
        finally:
            line.run("down", "--force")
    left = [one for one in mount_table() if one.mount_point.startswith(f"{tmp_path}/")]
    unmount_below(str(tmp_path))
    assert left == []


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block of the section up to what is said of Fluid's clients."""
    section = PAGE.read_text().split("## From a client to a mount plug-in")[1].split("\n### ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)


def test_the_walk_through_leads_to_a_mounted_dataset(line: CommandLine) -> None:
    said = []
    manifest = line.directory / "scans" / "runtime.yaml"
    for language, text in blocks():
        if language == "console":
            for command in text.splitlines():
                done = line.run(*shlex.split(command)[1:], timeout=110)
                said.append(done.stdout.decode())
                assert done.returncode == 0, (command, done.stdout, done.stderr)
        elif language == "diff":
            edited, count = _edited(manifest.read_text(), text)
            assert count <= AUTHORS_LINES
            manifest.write_text(edited)
        else:
            store = line.directory / "store"
            store.mkdir()
            (store / "sirius.bin").write_text("bright")
            declared = text.replace("/mnt/starfs", str(store))
            (line.directory / "dataset.yaml").write_text(declared)
    assert any("scans 0.1.0 conforms" in text for text in said)
    assert "sirius.bin" in said[-1]
