"""`load NAME` through the control plane: a DataLoad is declared and waited for."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.control.control_plane import ControlPlane
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.settings import Settings
from tests.cli.conftest import CommandLine, command_line_in
from tests.control.conftest import dataset


class PlaneHere:
    """A control plane in this process, whose loads end as the test says."""

    def __init__(self, settings: Settings, status: dict[str, Any]) -> None:
        self.settings, self.status = settings, status
        self.loads: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(20)

    async def _run(self) -> None:
        self.plane = ControlPlane(self.settings)
        self.plane.store.create(
            ObjectKey("datasets", "default", "pets"), dataset("pets", "local:///nas")
        )
        # The test says what becomes of a load, so nothing acts, and no worker is left behind.
        self.plane._step = lambda: None  # type: ignore[method-assign]
        await self.plane.start()
        self.plane.store.listeners.append(self._changed)
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self.plane.run()

    def _changed(self, change: Any) -> None:
        if change.key.plural == "dataloads" and change.type == "ADDED":
            self.loads.append(change.document)
            self._loop.call_later(0.3, self.plane.store.set_status, change.key, self.status)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self.plane.end, "the test is over")
        self._thread.join(20)


MakePlane = Callable[[dict[str, Any]], tuple[PlaneHere, CommandLine]]


@pytest.fixture
def make_plane(tmp_path: Path) -> Iterator[MakePlane]:
    planes: list[PlaneHere] = []
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime:
        settings = Settings(tmp_path / "cache", Path(runtime), tmp_path / "state")
        with command_line_in(tmp_path) as line:
            line.environment["FLUIDPY_RUNTIME_DIR"] = runtime

            def make(status: dict[str, Any]) -> tuple[PlaneHere, CommandLine]:
                planes.append(PlaneHere(settings, status))
                return planes[-1], line

            yield make
            for plane in planes:
                plane.close()


DONE = {"files": 3, "filesTotal": 3, "bytes": 2048, "bytesTotal": 2048}
COMPLETE = {"phase": "Complete", "progress": DONE}


def test_it_declares_a_load_and_waits_for_its_end(make_plane: MakePlane) -> None:
    plane, line = make_plane(COMPLETE)
    finished = line.run("load", "pets", "--path", "train", "--path", "/b", "--replicas", "2")
    assert finished.returncode == 0, finished.stderr
    assert b"3 files, 2.0 KiB in" in finished.stderr
    (load,) = plane.loads
    assert load["metadata"]["name"].startswith("pets-")
    assert load["spec"]["target"] == [
        {"path": "/train", "replicas": 2},
        {"path": "/b", "replicas": 2},
    ]
    assert load["spec"]["ttlSecondsAfterFinished"] == 86400


def test_what_could_not_be_read_is_printed_and_fails(make_plane: MakePlane) -> None:
    failures = [{"path": "/train/1", "message": "no such key"}]
    failed = {
        "phase": "Failed",
        "progress": {**DONE, "failed": 1, "failures": failures},
        "conditions": [{"type": "Failed", "message": "1 of 3 files could not be loaded"}],
    }
    _, line = make_plane(failed)
    finished = line.run("load", "pets")
    assert finished.returncode == 1
    assert b"not read: /train/1: no such key" in finished.stderr
    assert b"fluidpy: 1 of 3 files could not be loaded" in finished.stderr
    assert b"cure: " in finished.stderr


def test_without_waiting_it_names_the_load(make_plane: MakePlane) -> None:
    plane, line = make_plane(COMPLETE)
    begin = time.monotonic()
    words = line.done("load", "pets", "--no-wait", "--metadata").split()
    assert time.monotonic() - begin < 60
    assert words == [f"dataload.data.fluid.io/{plane.loads[0]['metadata']['name']}", "created"]
    assert plane.loads[0]["spec"]["options"] == {"loadMetadataOnly": "true"}


def test_for_programs_it_prints_the_status(make_plane: MakePlane) -> None:
    _, line = make_plane(COMPLETE)
    assert json.loads(line.done("load", "pets", "-o", "json")) == COMPLETE


def test_options_of_a_control_plane_need_one(tmp_path: Path, dataset_file: Path) -> None:
    with command_line_in(tmp_path) as line:
        finished = line.run("load", "-f", dataset_file, "--replicas", "2")
        assert finished.returncode == 2
        assert b"fluidpy up" in finished.stderr
