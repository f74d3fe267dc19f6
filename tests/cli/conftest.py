from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fluidpy.storage.local_files import SETTLED_NS
from tests.cli.forked_commands import may_be_forked, run_forked

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here"
)


@dataclass
class CommandLine:
    """Runs `fluidpy` as a user does, with directories of its own."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable
    run_by: Sequence[str] = ()
    """A command that runs the command line, put before it."""

    def run(
        self, *arguments: str | Path, stdin: bytes = b"", timeout: float = 100
    ) -> subprocess.CompletedProcess[bytes]:
        if self.python == sys.executable and not self.run_by and may_be_forked(self.environment):
            words = [*map(str, arguments)]
            return run_forked(words, self.environment, self.directory, stdin, timeout)
        return subprocess.run(
            [*self.run_by, self.python, "-m", "fluidpy", *map(str, arguments)],
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
    with command_line_in(tmp_path) as line:
        yield line


@contextlib.contextmanager
def command_line_in(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line with its directories below `tmp_path`; its worker ends with it."""
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
            if (Path(runtime) / "worker.sock").exists():
                line.run("worker", "--stop")


def make_tree(root: Path) -> Path:
    """A small source on a 'NAS', old enough to be kept: what changed just now is only served."""
    (root / "train" / "cats").mkdir(parents=True)
    (root / "train" / "cats" / "1.txt").write_bytes(b"meow" * 1000)
    (root / "train" / "cats" / "2.txt").write_bytes(b"purr" * 50_000)
    (root / "train" / "dogs.txt").write_bytes(b"woof")
    (root / "labels.csv").write_text("name,label\n1,cat\n")
    time.sleep(SETTLED_NS / 1e9 + 0.1)  # a change time cannot be set, only waited for
    return root


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source that tests only read."""
    return make_tree(tmp_path_factory.mktemp("nas"))


def write_dataset(file: Path, source: str) -> Path:
    file.write_text(
        "apiVersion: data.fluid.io/v1alpha1\n"
        "kind: Dataset\n"
        "metadata:\n  name: pets\n"
        "spec:\n  mounts:\n"
        f"    - mountPoint: {source}\n      name: nas\n      path: /\n"
    )
    return file


@pytest.fixture
def dataset_file(tmp_path: Path, tree: Path) -> Path:
    return write_dataset(tmp_path / "pets.yaml", f"local://{tree}")
