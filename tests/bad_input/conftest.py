from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.cli.conftest import CommandLine, command_line

__all__ = ["command_line"]

WITHOUT_RIGHTS: tuple[str, ...] = ()
"""Runs a command as somebody for whom the modes of files count: root needs help with that."""
if os.geteuid() == 0:
    WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@dataclass
class Refusals:
    """Runs commands that must fail, and sees to it that each leaves nothing behind."""

    line: CommandLine

    @property
    def runtime(self) -> Path:
        return Path(self.line.environment["FLUIDPY_RUNTIME_DIR"])

    def said(
        self,
        *arguments: str | Path,
        code: int = 1,
        attached: bool = False,
        run_by: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """What the command says on stderr; nothing on stdout, no traceback, no leftovers.

        `attached`: the worker knows the Dataset by then, so its catalog is there. `run_by` and
        `environment` are this command's alone.
        """
        line = self.line
        before = self._found(attached)
        line = replace(line, environment={**line.environment, **environment}, run_by=run_by)
        finished = line.run(*arguments)
        said = finished.stderr.decode()
        assert finished.returncode == code, said
        assert finished.stdout == b""
        assert "Traceback" not in said
        assert said.startswith("fluidpy: "), said
        assert self._found(attached) == before
        self._assert_no_dead_worker()
        return said.removeprefix("fluidpy: ").rstrip("\n")

    def assert_clean(self) -> None:
        """No mount, no record of one, no process of one, no socket without its worker."""
        assert str(self.line.directory) not in Path("/proc/self/mounts").read_text()
        assert not list(self.runtime.glob("mount*"))
        assert not self.processes("fluidpy.fuse")
        self._assert_no_dead_worker()

    def _assert_no_dead_worker(self) -> None:
        if (self.runtime / "worker.sock").exists():
            assert self.processes("fluidpy.worker")

    def _found(self, attached: bool) -> set[str]:
        """What a command could leave: files, mounts, their records, logs and processes.

        A worker may have been started, which ends when it is idle, with the store that it keeps.
        """
        cache = Path(self.line.environment["FLUIDPY_CACHE_DIR"])
        kept = {cache, cache / "store"} | ({cache / "catalogs"} if attached else set())
        files = {
            str(path)
            for path in self.line.directory.rglob("*")
            if path not in kept and not (kept - {cache}).intersection(path.parents)
        }
        files |= {str(p) for p in self.runtime.rglob("*") if not p.name.startswith("worker")}
        mounts = {
            line
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if str(self.line.directory) in line
        }
        processes = self.processes("fluidpy.fuse.holder" if mounts else "fluidpy.fuse")
        return files | mounts | {f"process {number}" for number in processes}

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
