"""The worker's process: what it may use, whom it serves, and that it does not outlive its use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.client.connection import WorkerConnection
from fluidpy.client.session import DatasetSession
from fluidpy.errors import WorkerError
from fluidpy.settings import default_cache_dir
from tests.worker.conftest import Machine, MakeMachine, await_end


def test_a_worker_that_caches_elsewhere_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.write("f", b"x")
    assert machine.session().read("f") == b"x"
    elsewhere = replace(machine.settings, cache_dir=tmp_path / "elsewhere")
    connection = WorkerConnection(elsewhere)
    try:
        session = DatasetSession(machine.definition(), elsewhere)
        session.connection = connection
        with pytest.raises(WorkerError) as caught:
            session.read("f")
        for said in (str(elsewhere.cache_dir), str(machine.settings.cache_dir), "--stop"):
            assert said in str(caught.value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        session.settings = replace(elsewhere, cache_dir=default_cache_dir(os.environ))
        assert session.read("f") == b"x"  # its default asks for nothing
    finally:
        connection.close()


def test_the_worker_may_open_as_many_files_as_there_may_be(machine: Machine) -> None:
    soft, hard_number = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard_number))
    try:
        pid = machine.pid
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard_number))
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    said = next(line for line in limits if line.startswith("Max open files")).split()
    assert said[3] == said[4]


def test_a_worker_whose_socket_is_removed_ends_once_it_serves_nobody(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine(idle_seconds=8.0)  # looks after itself each 2 s
    pid = machine.pid
    machine.settings.worker_socket.unlink()
    await_end(pid)
    assert "was removed: nobody can reach this" in machine.log()


def test_a_worker_makes_no_runtime_directory_that_was_removed(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, encoding="utf-8") as pipe:
        try:
            finished = subprocess.run(
                [sys.executable, "-m", "fluidpy.worker", "--ready-fd", str(write_end)],
                env={**os.environ, "FLUIDPY_RUNTIME_DIR": str(tmp_path / "gone")},
                pass_fds=(write_end,),
                capture_output=True,
                timeout=60,
                check=False,
            )
        finally:
            os.close(write_end)
        assert finished.returncode != 0
        assert "was removed meanwhile" in pipe.read()
    assert not (tmp_path / "gone").exists()
