"""A control plane of its own for a test, with directories that nobody else has."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.control_client import ControlClient
from fluidpy.control.start import start_control_plane, stop_control_plane
from fluidpy.errors import ControlPlaneAbsentError
from fluidpy.settings import Settings

Document = dict[str, Any]


class LocalControlPlane:
    """Starts, kills and ends one user's control plane."""

    def __init__(self, directory: Path, runtime: Path, **settings: Any) -> None:
        self.directory = directory
        self.settings = Settings(
            cache_dir=directory / "cache",
            runtime_dir=runtime,
            state_dir=directory / "state",
            block_bytes=65536,
            **settings,
        )
        self.client = ControlClient(self.settings, deadline=60.0)
        self.pid = 0

    def up(self) -> None:
        self.pid = start_control_plane(self.settings)

    def down(self, *, force: bool = False) -> None:
        stop_control_plane(self.settings, force=force)
        os.waitpid(self.pid, 0)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def log(self) -> str:
        return (self.settings.runtime_dir / "control.log").read_text()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path) as control:
        yield control


@contextlib.contextmanager
def local_control_plane(directory: Path, **settings: Any) -> Iterator[LocalControlPlane]:
    # A unix socket's path is short: pytest's own directories may be too long for it.
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime:
        control = LocalControlPlane(directory, Path(runtime), **settings)
        control.up()
        try:
            yield control
        finally:
            with contextlib.suppress(ControlPlaneAbsentError):
                control.down(force=True)


def dataset(name: str, source: str, namespace: str = "default", **spec: Any) -> Document:
    mounts = [{"mountPoint": source, "name": "m", "path": "/"}]
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"mounts": mounts, **spec},
    }


def secret(name: str, **values: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": values,
    }
