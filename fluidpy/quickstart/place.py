"""The directories of one run, and the commands run in them; all of it goes away at the end."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fluidpy.quickstart.plugin_folder import announce_archive

COMMAND_SECONDS = 90.0
"""Longest wait for one command; each has shorter deadlines of its own."""


@dataclass(frozen=True)
class Place:
    """Where one run keeps its things; `environment` points fluidpy's settings there."""

    directory: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def file(self) -> Path:
        """The YAML that declares the Dataset."""
        return self.directory / "dataset.yaml"

    @property
    def mount_point(self) -> Path:
        """Where the Dataset is mounted."""
        return self.directory / "data"

    @property
    def nas(self) -> Path:
        """The 'NAS' directory."""
        return self.directory / "nas"

    @property
    def archive(self) -> Path:
        """What `archive://` reads."""
        return self.directory / "archive"

    @property
    def secrets(self) -> Path:
        """Secret files, `<secret>/<key>`."""
        return self.directory / "secrets"

    def fluidpy(self, *arguments: str | Path, show: bool = True) -> str:
        """Runs a command as a user would, shows it and its output. Raises CalledProcessError."""
        words = [str(argument) for argument in arguments]
        if show:
            print(f"\n$ fluidpy {shlex.join(words)}", flush=True)
        finished = subprocess.run(
            [sys.executable, "-m", "fluidpy", *words],
            stdout=subprocess.PIPE,
            env=self.environment,
            timeout=COMMAND_SECONDS,
            check=True,
            text=True,
        )
        if show:
            print(finished.stdout, end="", flush=True)
        return finished.stdout

    def clean_up(self) -> None:
        """Unmounts what an interrupted run left mounted, and ends its worker."""
        if os.path.ismount(self.mount_point):
            self._quietly("umount", str(self.mount_point), "--lazy")
        self._quietly("worker", "--stop")

    def _quietly(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "fluidpy", *words],
            env=self.environment,
            timeout=COMMAND_SECONDS,
            check=False,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def temporary_place() -> Iterator[Place]:
    """A place of its own, which this process's settings point to as well; removed at the end."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="fluidpy-quickstart-") as name:
        directory = Path(name)
        os.environ.update(
            FLUIDPY_CACHE_DIR=str(directory / "cache"),
            FLUIDPY_RUNTIME_DIR=str(directory / "run"),
            FLUIDPY_SECRET_DIRECTORY=str(directory / "secrets"),
        )
        announce_archive(directory / "plugins", os.environ)
        place = Place(directory, dict(os.environ))
        place.mount_point.mkdir()
        try:
            yield place
        finally:
            place.clean_up()
            os.environ.clear()
            os.environ.update(before)
