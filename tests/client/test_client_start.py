from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.client import background_start, start
from fluidpy.errors import CacheDirectoryError, WorkerError, WorkerStartError, WorkerTimeoutError
from fluidpy.settings import Settings, load_settings


def _interpreter(tmp_path: Path, body: str) -> str:
    """Something to run instead of Python: a worker that behaves badly."""
    script = tmp_path / "interpreter"
    script.write_text(f"#!/bin/bash\n{body}\n")
    script.chmod(0o755)
    return str(script)


def test_nobody_listening_is_none(settings: Settings) -> None:
    assert start.connect(settings) is None


def test_a_socket_file_left_behind_is_none(settings: Settings) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(settings.worker_socket))
    assert start.connect(settings) is None


def test_a_runtime_directory_others_may_write_is_refused(settings: Settings) -> None:
    settings.runtime_dir.chmod(0o777)
    with pytest.raises(WorkerError, match="can be written by, other users"):
        start.ensure_worker(settings)


def test_a_path_too_long_for_a_socket_says_so(settings: Settings, tmp_path: Path) -> None:
    long = replace(settings, runtime_dir=tmp_path / ("x" * 100))
    with pytest.raises(WorkerError, match=r"107 bytes.*FLUIDPY_RUNTIME_DIR"):
        start.ensure_worker(long)


def test_a_worker_that_dies_at_once_is_reported_with_its_last_words(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = _interpreter(tmp_path, "echo 'something broke' >&2; exit 5")
    monkeypatch.setattr(sys, "executable", script)
    with pytest.raises(WorkerStartError, match="ended with status 5 at once: something broke"):
        start.ensure_worker(settings)
    assert (settings.runtime_dir / "worker.log").stat().st_mode & 0o777 == 0o600


def test_a_worker_that_is_killed_while_it_starts_is_started_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    killed = f"echo once >> {starts}; kill -9 $$"
    monkeypatch.setattr(sys, "executable", _interpreter(tmp_path, killed))
    with pytest.raises(WorkerStartError, match="ended with status -9 at once"):
        start.ensure_worker(settings)
    assert starts.read_text().count("once") == start.STARTS


def test_a_missing_library_names_what_to_install(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = _interpreter(
        tmp_path, "echo \"ModuleNotFoundError: No module named 'obstore'\"; exit 1"
    )
    monkeypatch.setattr(sys, "executable", script)
    with pytest.raises(WorkerStartError, match=r"pip install 'fluidpy\[worker\]'"):
        start.ensure_worker(settings)


def test_the_error_a_worker_reports_is_raised(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = '{"type":"CacheDirectoryError","message":"the disk is away","cure":"Mount it."}'
    script = _interpreter(tmp_path, f"cat >&$4 <<'END'\n{wire}\nEND")
    monkeypatch.setattr(sys, "executable", script)
    with pytest.raises(CacheDirectoryError, match=r"^the disk is away\. Mount it\.$"):
        start.ensure_worker(settings)


def test_a_worker_that_never_gets_ready_is_ended_at_the_deadline(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", _interpreter(tmp_path, "exec sleep 60"))
    with pytest.raises(WorkerTimeoutError, match="was not ready in time"):
        start.ensure_worker(settings, deadline=0.2)


def test_one_start_at_a_time(settings: Settings) -> None:
    lock = settings.runtime_dir / "worker-start.lock"
    with (
        start._start_lock(lock, float("inf")),
        pytest.raises(WorkerTimeoutError, match="is locked"),
    ):
        start.ensure_worker(settings, deadline=0.05)


def test_a_worker_gets_the_settings_of_its_client(settings: Settings) -> None:
    environment = start.worker_environment(replace(settings, idle_seconds=1.5))
    seen = load_settings(environment)
    assert seen.cache_dir == settings.cache_dir
    assert seen.runtime_dir == settings.runtime_dir
    assert seen.idle_seconds == 1.5


def test_fds_from_1024_up_can_be_waited_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    ours, theirs = os.pipe()
    high = fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1024)
    try:
        assert not background_start.wait_ready(high, select.POLLIN, 0.01)
        os.write(theirs, b"x")
        assert background_start.wait_ready(high, select.POLLIN, 1.0)
    finally:
        for fd in (ours, theirs, high):
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_start_lock_that_cannot_be_opened_is_told(settings: Settings) -> None:
    (settings.runtime_dir / "worker-start.lock").mkdir()
    with pytest.raises(WorkerStartError, match=r"worker-start\.lock cannot be opened"):
        start.ensure_worker(settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk as root")
def test_a_full_runtime_disk_is_named(settings: Settings) -> None:
    start.prepare_runtime_directory(settings.runtime_dir)
    disk = settings.runtime_dir
    options = ["-t", "tmpfs", "-o", "size=64k,mode=0700", "none", os.fspath(disk)]
    subprocess.run(["mount", *options], check=True)
    try:
        (disk / "worker-start.lock").touch()
        with pytest.raises(OSError, match="No space left"):
            (disk / "fill").write_bytes(bytes(1 << 20))
        with pytest.raises(WorkerStartError, match=f"the runtime directory {disk} is full"):
            start.ensure_worker(settings)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


class HeldByTheKernel(background_start.Detached):
    """Does not end when it is killed, as one that waits for a dead disk."""

    def wait(self, timeout: float | None = None) -> int:
        assert timeout is not None, "a wait without a deadline"
        raise subprocess.TimeoutExpired(self.args, timeout)


def test_a_process_that_the_kernel_holds_is_told_and_left(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    process = HeldByTheKernel(["sleep", "600"])
    failure = start._start_failure(b"", process, settings.runtime_dir / "worker.log")
    assert isinstance(failure, WorkerStartError)
    assert "waits in the kernel" in failure.message
    assert f"process {process.pid} waits in the kernel" in caplog.text
    assert subprocess.Popen.wait(process) == -signal.SIGKILL


def test_a_process_that_does_not_end_in_time_is_killed() -> None:
    assert background_start.Detached(["true"]).end_within(60) == 0
    assert background_start.Detached(["sleep", "600"]).end_within(0) == -signal.SIGKILL
