"""A server of new code takes over from a running one; readers notice nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fluidpy
from fluidpy.errors import FluidpyError, MountError
from fluidpy.fuse import control, holder_socket, upgrade_command
from fluidpy.fuse.mount_record import socket_path
from fluidpy.fuse.mounting import unmount
from fluidpy.fuse.unanswered import SWITCH
from fluidpy.fuse.upgrade_command import upgrade
from fluidpy.settings import Settings
from tests.fuse.conftest import Mounted, children_of
from tests.fuse.test_fuse_faults import gone, running
from tests.fuse.test_fuse_restart import kill_server, now_mounted, readers
from tests.fuse.test_fuse_serving import seen, stall_this_one, until, waits
from tests.fuse.tree_worker import TreeWorker


def use_code_of(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upgrades run the code below this directory, as if it had been installed since."""
    monkeypatch.setattr(
        upgrade_command, "worker_environment", lambda _: {"PYTHONPATH": os.fspath(directory)}
    )


def test_upgrades_under_readers_are_not_noticed(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    worker.complete = False
    first = mounted()
    served_by = first.server_pid
    with readers(mount_point, worker, 3) as took:
        for _ in range(3):
            pids = upgrade(mount_point, fuse_settings)
            assert pids.old == served_by
            assert running(pids.new)
            assert until(lambda old=pids.old: not running(old))  # type: ignore[misc]
            served_by = pids.new
            calls = len(took)
            assert until(lambda calls=calls: len(took) > calls)  # type: ignore[misc]
    record = now_mounted(fuse_settings)
    assert (record.server_pid, record.restarts) == (served_by, 0)
    assert kill_server(fuse_settings).restarts == 1
    assert seen(mount_point) == worker.tree
    unmount(mount_point, fuse_settings)
    assert gone(record)
    assert not socket_path(fuse_settings, mount_point).exists()


def test_the_code_on_disk_now_is_what_runs(
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounted()
    (tmp_path / "fluidpy").symlink_to(Path(fluidpy.__file__).parent)
    use_code_of(tmp_path, monkeypatch)
    pids = [upgrade(mount_point, fuse_settings).new, kill_server(fuse_settings).server_pid]
    for pid in pids[1:]:
        assert f"PYTHONPATH={tmp_path}".encode() in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_read_that_waits_goes_on_with_the_new_server(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    worker.complete = False
    mounted()
    worker.stall = threading.Event()
    with subprocess.Popen(["cat", mount_point / "large.bin"], stdout=subprocess.PIPE) as reader:
        stall = stall_this_one(worker)
        upgrade(mount_point, fuse_settings)
        out, _ = reader.communicate(timeout=60)
        stall.set()
    assert (reader.returncode, out) == (0, worker.tree[b"large.bin"])


def test_without_the_kernels_help_the_old_server_answers_first(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SWITCH, "0")
    worker.complete = False
    mounted()
    worker.stall = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        read = pool.submit((mount_point / "large.bin").read_bytes)
        assert waits(worker)
        upgraded = pool.submit(upgrade, mount_point, fuse_settings)
        stall, worker.stall = worker.stall, None
        threading.Timer(1.0, stall.set).start()
        assert upgraded.result(timeout=60).new == now_mounted(fuse_settings).server_pid
        assert read.result(timeout=60) == worker.tree[b"large.bin"]


@pytest.mark.parametrize("module", ["fuse/server.py", "fuse/reach_worker.py"])
def test_new_code_that_does_not_start_leaves_the_old_server(
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
) -> None:
    record = mounted()
    package = Path(fluidpy.__file__).parent
    shutil.copytree(package, tmp_path / "fluidpy", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "fluidpy" / module).open("a") as stream:
        stream.write("\nraise RuntimeError('broken')\n")
    use_code_of(tmp_path, monkeypatch)
    with pytest.raises(MountError, match="ended before it could serve; the old one goes on"):
        upgrade(mount_point, fuse_settings)
    assert now_mounted(fuse_settings).server_pid == record.server_pid
    assert (mount_point / "small.txt").read_bytes() == b"hello\n"
    assert kill_server(fuse_settings).restarts == 1


def test_new_code_that_fails_when_it_is_its_turn_is_followed_by_the_old(
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounted()
    package = Path(fluidpy.__file__).parent
    shutil.copytree(package, tmp_path / "fluidpy", ignore=shutil.ignore_patterns("__pycache__"))
    session = tmp_path / "fluidpy/fuse/session.py"
    text = session.read_text()
    session.write_text(
        text.replace("def start(self) -> None:", "def start(self, none: int) -> None:")
    )
    use_code_of(tmp_path, monkeypatch)
    with pytest.raises(MountError, match="one of the old code goes on"):
        upgrade(mount_point, fuse_settings)
    assert until(lambda: now_mounted(fuse_settings).restarts == 1)
    assert (mount_point / "small.txt").read_bytes() == b"hello\n"


def test_what_cannot_be_upgraded_is_named(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(MountError, match="nothing is mounted at"):
        upgrade(tmp_path, fuse_settings)
    with pytest.raises(MountError, match="mount of proc, not of fluidpy"):
        upgrade(Path("/proc"), fuse_settings)
    record = mounted()
    for pid in (record.server_pid, record.holder_pid):
        os.kill(pid, signal.SIGSTOP)
    children = children_of(record.holder_pid)
    os.kill(record.holder_pid, signal.SIGKILL)
    assert until(lambda: not running(record.holder_pid))
    with pytest.raises(MountError, match=r"holder of the mount .* cannot be reached"):
        upgrade(mount_point, fuse_settings)
    os.kill(record.server_pid, signal.SIGCONT)
    assert until(lambda: not any(running(pid) for pid in children))


def test_an_upgrade_at_a_time(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings, tmp_path: Path
) -> None:
    mounted()
    slow = tmp_path / "python"
    go_on = tmp_path / "go-on"
    os.mkfifo(go_on)
    slow.write_text(f"#!/bin/sh\nexec cat {go_on}\n")
    slow.chmod(0o755)
    with holder_socket.connect(fuse_settings, mount_point) as first:
        order = {"executable": os.fspath(slow), "pythonPath": ""}
        control.tell(first, {"upgrade": order})
        with pytest.raises(MountError, match="upgraded already"):
            upgrade(mount_point, fuse_settings)
        with go_on.open("wb"):
            pass
        received = control.hear(first, time.monotonic() + 60)
    assert received is not None
    assert "ended before it could serve" in received.message["failed"]["message"]
    assert upgrade(mount_point, fuse_settings).new == now_mounted(fuse_settings).server_pid


@pytest.mark.parametrize(
    "command", [{}, {"upgrade": {}}, {"upgrade": {"executable": "/none", "pythonPath": ""}}]
)
def test_commands_that_cannot_be_are_refused(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings, command: dict[str, Any]
) -> None:
    mounted()
    with holder_socket.connect(fuse_settings, mount_point) as connection:
        control.tell(connection, command)
        received = control.hear(connection, time.monotonic() + 60)
    assert received is not None
    assert "failed" in received.message
    assert upgrade(mount_point, fuse_settings).old != 0


def test_a_worker_that_cannot_be_reached_keeps_the_old_server(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    fuse_settings.worker_socket.unlink()
    fuse_settings.worker_socket.mkdir()  # so that none can be started, either
    with pytest.raises(FluidpyError, match=r"worker"):
        upgrade(mount_point, fuse_settings)
    assert now_mounted(fuse_settings).server_pid == record.server_pid
    fuse_settings.worker_socket.rmdir()


def test_the_command_names_both_servers(
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = mounted()
    monkeypatch.setenv("FLUIDPY_RUNTIME_DIR", os.fspath(fuse_settings.runtime_dir))
    monkeypatch.setenv("FLUIDPY_CACHE_DIR", os.fspath(fuse_settings.cache_dir))
    command = [sys.executable, "-m", "fluidpy", "mount", "--upgrade", os.fspath(mount_point)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr
    new = now_mounted(fuse_settings).server_pid
    said = f"served by process {new} now, before by {record.server_pid}"
    assert said in run.stdout + run.stderr
    wrong = subprocess.run(
        [*command, "another"], capture_output=True, text=True, timeout=50, check=False
    )
    assert wrong.returncode == 2
    assert "--upgrade goes with a directory alone" in wrong.stderr
