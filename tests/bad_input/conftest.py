from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, command_line

__all__ = ["command_line"]

WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Runs a command as root for whom the modes of files count, as they do for everybody else."""


@dataclass
class Refusals:
    """Runs commands that must fail, and sees to it that each leaves nothing behind."""

    line: CommandLine

    @property
    def runtime(self) -> Path:
        return Path(self.line.environment["FLUIDPY_RUNTIME_DIR"])

    def said(self, *arguments: str | Path, code: int = 1) -> str:
        """What the command says on stderr; nothing on stdout, no traceback, no leftovers."""
        before = self._files()
        finished = self.line.run(*arguments)
        said = finished.stderr.decode()
        assert finished.returncode == code, said
        assert finished.stdout == b""
        assert "Traceback" not in said
        assert said.startswith("fluidpy: "), said
        self.assert_clean()
        assert self._files() == before
        return said.removeprefix("fluidpy: ").rstrip("\n")

    def assert_clean(self) -> None:
        """No mount, no record of one, no process of one, no socket without its worker."""
        assert str(self.line.directory) not in Path("/proc/self/mounts").read_text()
        assert not list(self.runtime.glob("mounts/*"))
        assert not self.processes("fluidpy.fuse")
        if (self.runtime / "worker.sock").exists():
            assert self.processes("fluidpy.worker")

    def _files(self) -> set[Path]:
        cache = Path(self.line.environment["FLUIDPY_CACHE_DIR"])
        return {p for p in self.line.directory.rglob("*") if cache not in (p, *p.parents)}

    def processes(self, module: str) -> list[int]:
        mine = os.fsencode(f"FLUIDPY_RUNTIME_DIR={self.runtime}")
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                environment = (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(module.encode()) for word in words) and mine in environment:
                found.append(int(process.name))
        return found

    def worker(self) -> int:
        """The process of the running worker."""
        (pid,) = self.processes("fluidpy.worker")
        return pid


@pytest.fixture
def refusals(command_line: CommandLine) -> Refusals:
    return Refusals(command_line)


def dataset(source: str, name: str = "pets", more: str = "") -> str:
    """YAML of a Dataset with one mount at `/`; `more` is YAML at the depth of its fields."""
    return (
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\n"
        f"metadata:\n  name: {name}\nspec:\n  mounts:\n"
        f"    - name: nas\n      path: /\n      mountPoint: {source}\n{more}"
    )
