"""A mount goes on by another worker when its own leaves the pool, and no reader notices."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.client.connection import WorkerConnection
from fluidpy.client.protocol import Operation, close_all
from fluidpy.control.pool_worker import worker_settings
from tests.control.conftest import LocalControlPlane, dataset
from tests.control.test_life_of_a_dataset import await_true, phase, ready_workers

FILES = 30
SMALL = 50_000
LARGE = 96 * 1024 * 1024
"""More than is read ahead, so that its end has to be asked for."""


def content(number: int) -> bytes:
    return bytes([number]) * SMALL


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "nas"
    for number in range(FILES):
        folder = source / f"d{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(content(number))
    with (source / "large.tar").open("wb") as stream:
        stream.write(b"first")
        os.truncate(stream.fileno(), LARGE - 4)
        stream.seek(LARGE - 4)
        stream.write(b"last")
    return source


def served_by(control: LocalControlPlane, server_pid: int) -> str | None:
    """The worker that has the mount's server among its clients."""
    for row in control.client.status()["workers"]:
        connection = WorkerConnection(worker_settings(control.settings, row["name"]))
        with contextlib.closing(connection):
            connection.connect(deadline=10)
            ok, fds = connection.call(Operation.STATUS, deadline=10)
            close_all(fds)
        if any(server_pid in one["client_pids"] for one in ok["datasets"]):
            return str(row["name"])
    return None


@contextlib.contextmanager
def reading_on(directory: Path) -> Iterator[list[str]]:
    """Lists and reads all small files again and again; what was wrong."""
    wrong: list[str] = []
    stop = threading.Event()

    def read_on() -> None:
        number = 0
        while not stop.is_set():
            path = directory / f"d{number % 3}" / f"{number}.bin"
            try:
                if path.read_bytes() != content(number):
                    wrong.append(f"{path} has wrong bytes")
                if len(os.listdir(path.parent)) < FILES // 3:
                    wrong.append(f"{path.parent} lacks files")
            except OSError as error:
                wrong.append(repr(error))
            number = (number + 1) % FILES

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        yield wrong
    finally:
        stop.set()
        reader.join()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("read_mode", ["auto", "plain"])
def test_a_mount_goes_on_when_its_worker_is_scaled_away(
    control: LocalControlPlane, source: Path, tmp_path: Path, read_mode: str
) -> None:
    control.client.create("datasets", "default", dataset("pets", f"local://{source}"))
    await_true(lambda: phase(control) == "Bound")
    control.client.scale("datasets", "default", "pets", 2)
    await_true(lambda: len(ready_workers(control)) == 2)
    directory = tmp_path / "mnt"
    directory.mkdir()
    record = control.client.declare_mount("default", "pets", str(directory), read_mode, deadline=60)
    own = await_true(lambda: served_by(control, record["serverPid"]))
    with (directory / "large.tar").open("rb", buffering=0) as large:
        assert large.read(5) == b"first"
        numbers = {p: p.stat().st_ino for p in sorted(directory.rglob("*"))}
        for round_ in range(2):  # to the other one, and back
            with reading_on(directory) as wrong:
                control.client.scale("datasets", "default", "pets", 1, [own])
                left = await_true(
                    lambda: (
                        (rows := control.client.status()["workers"]) and len(rows) == 1 and rows
                    ),
                    60,
                )
                assert left[0]["name"] != own
                own = await_true(lambda: served_by(control, server_pid(control)))
                assert own == left[0]["name"]
                (source / f"new{round_}.txt").write_text("new")
                assert not wrong, wrong[:5]
            assert {p: p.stat().st_ino for p in numbers} == numbers
            os.kill(server_pid(control), signal.SIGKILL)
            assert (directory / "d0" / "0.bin").read_bytes() == content(0)
            assert await_true(lambda: served_by(control, server_pid(control))) == own
            control.client.scale("datasets", "default", "pets", 2)
            await_true(lambda: len(ready_workers(control)) == 2)
        large.seek(LARGE - 4)
        assert large.read(4) == b"last"
    control.client.remove_mount(str(directory))


def server_pid(control: LocalControlPlane) -> int:
    (row,) = control.client.status()["mounts"]
    return int(row["serverPid"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_mount_goes_on_when_its_worker_stays_for_another_dataset_only(
    control: LocalControlPlane, source: Path, tmp_path: Path
) -> None:
    for name in ("pets", "birds"):
        control.client.create("datasets", "default", dataset(name, f"local://{source}"))
    for name in ("pets", "birds"):
        control.client.scale("datasets", "default", name, 2)
    await_true(lambda: all(len(ready_workers(control, n)) == 2 for n in ("pets", "birds")))
    directory = tmp_path / "mnt"
    directory.mkdir()
    record = control.client.declare_mount("default", "pets", str(directory), "auto", deadline=60)
    own = await_true(lambda: served_by(control, record["serverPid"]))
    numbers = {p: p.stat().st_ino for p in sorted(directory.rglob("*"))}
    control.client.scale("datasets", "default", "pets", 1, [own])
    await_true(lambda: own not in {row["name"] for row in ready_workers(control)})
    assert own in {row["name"] for row in ready_workers(control, "birds")}
    ended: set[int] = set()
    for number in range(2):
        ended.add(server_pid(control))
        os.kill(server_pid(control), signal.SIGKILL)
        assert (directory / "d0" / "0.bin").read_bytes() == content(0)
        assert {p: p.stat().st_ino for p in numbers} == numbers
        (source / "d0" / f"new{number}").write_text("new")
        path = directory / "large.tar"
        with path.open("rb", buffering=0) as large:
            large.seek(LARGE - 4)
            assert large.read(4) == b"last"
        await_true(lambda: server_pid(control) not in ended)
    control.client.remove_mount(str(directory))
