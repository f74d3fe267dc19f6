from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class CommandLine:
    """Runs `fluidpy` as a user does, with directories of its own."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable

    def run(
        self, *arguments: str | Path, stdin: bytes = b"", timeout: float = 50
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.python, "-m", "fluidpy", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=self.environment,
            cwd=self.directory,
            check=False,
        )

    def done(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """The output of a command that must succeed."""
        finished = self.run(*arguments, stdin=stdin)
        assert finished.returncode == 0, finished.stderr.decode()
        return finished.stdout.decode()


@pytest.fixture
def command_line(tmp_path: Path) -> Iterator[CommandLine]:
    # A unix socket's path is short: pytest's own directories may be too long for it.
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLUIDPY_")}
        environment |= {
            "FLUIDPY_CACHE_DIR": str(tmp_path / "cache"),
            "FLUIDPY_RUNTIME_DIR": runtime,
            "FLUIDPY_CONFIG": str(tmp_path / "no-config.toml"),
        }
        line = CommandLine(tmp_path, environment)
        try:
            yield line
        finally:
            line.run("worker", "--stop")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source on a 'NAS'."""
    root = tmp_path / "nas"
    (root / "train" / "cats").mkdir(parents=True)
    (root / "train" / "cats" / "1.txt").write_bytes(b"meow" * 1000)
    (root / "train" / "cats" / "2.txt").write_bytes(b"purr" * 50_000)
    (root / "train" / "dogs.txt").write_bytes(b"woof")
    (root / "labels.csv").write_text("name,label\n1,cat\n")
    old = 1_700_000_000
    for path in root.rglob("*"):
        os.utime(path, (old, old))  # a file changed just now is served and not kept
    return root


@pytest.fixture
def dataset_file(tmp_path: Path, tree: Path) -> Path:
    file = tmp_path / "pets.yaml"
    file.write_text(
        "apiVersion: data.fluid.io/v1alpha1\n"
        "kind: Dataset\n"
        "metadata:\n  name: pets\n"
        "spec:\n  mounts:\n"
        f"    - mountPoint: local://{tree}\n      name: nas\n      path: /\n"
    )
    return file
