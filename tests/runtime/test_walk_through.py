"""The walk-through of docs/runtimes.md, done as it is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, command_line_in

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
OWN_LINES = 10
"""What an author may have to write himself."""

CLIENT = '''\
"""Stands for the client of a store that is not public."""
import os

class Client:
    def __init__(self, root):
        self.root = root

    def stat(self, path):
        return os.stat(f"{self.root}/{path}")

    def listdir(self, path):
        return os.listdir(f"{self.root}/{path}")

    def read(self, path, start, size):
        with open(f"{self.root}/{path}", "rb") as file:
            file.seek(start)
            return file.read(size)

def connect(root, token):
    return Client(root)
'''


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        line.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
        yield line


def _blocks() -> list[tuple[str, str]]:
    """Language and text of each block of the section, in order."""
    section = PAGE.read_text().split("## From nothing to a plug-in")[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)


def _edited(text: str, changes: str) -> tuple[str, int]:
    """The text with the lines of a diff without context replaced, and how many were put in."""
    new = 0
    for old, put in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", changes, re.MULTILINE):
        gone = re.sub(r"^-", "", old, flags=re.MULTILINE)
        assert gone in text, f"the template has no {gone!r}"
        text = text.replace(gone, re.sub(r"^\+", "", put, flags=re.MULTILINE), 1)
        new += len(put.splitlines())
    return text, new


def _follow(line: CommandLine, *, skip: str = "") -> list[str]:
    """Does what the section says; what the commands print."""
    said = []
    module = line.directory / "starfs" / "starfs.py"
    for language, text in _blocks():
        if language == "console":
            for command in text.splitlines():
                words = shlex.split(command)[1:]
                if " ".join(words[:2]) != skip:
                    said.append(line.run(*words, timeout=110))
                    assert said[-1].returncode == 0, said[-1].stdout + said[-1].stderr
        elif language == "diff":
            edited, count = _edited(module.read_text(), text)
            assert count <= OWN_LINES
            module.write_text(edited)
            (module.parent / "starfs_client.py").write_text(CLIENT)
        else:
            store = line.directory / "store"
            store.mkdir()
            (store / "sirius.txt").write_text("bright")
            declared = text.replace("/mnt/starfs", str(store))
            (line.directory / "dataset.yaml").write_text(declared)
    return [one.stdout.decode() for one in said]


def test_the_walk_through_leads_to_a_dataset(line: CommandLine) -> None:
    assert "sirius.txt" in _follow(line, skip="runtime test")[-1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_plugin_of_the_walk_through_conforms(line: CommandLine) -> None:
    reports = [text for text in _follow(line) if " conforms: " in text]
    assert len(reports) == 1
    assert "FAILED" not in reports[0]
