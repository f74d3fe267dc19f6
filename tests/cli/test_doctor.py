from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from fluidpy.cache.directory import MountFact
from fluidpy.cli import doctor_cache, doctor_mounts, doctor_system, status
from fluidpy.cli.findings import Verdict
from fluidpy.fuse.mount_record import MountRecord
from fluidpy.fuse.mount_table import MountPoint
from fluidpy.settings import Settings
from tests.cli.conftest import CommandLine


def test_python_versions() -> None:
    assert doctor_system.check_python((3, 11, 2)).verdict is Verdict.OK
    assert doctor_system.check_python((3, 10, 9)).verdict is Verdict.BROKEN


@pytest.mark.parametrize(
    ("release", "verdict", "words"),
    [
        ("6.18.44-x", Verdict.OK, "Linux 6.18.44-x"),
        ("5.4.0-26-generic", Verdict.OK, "Linux 5.4.0"),
        ("4.19.0-27-amd64", Verdict.BROKEN, "older than 5.4"),
        ("odd", Verdict.BROKEN, "odd"),
    ],
)
def test_kernels(release: str, verdict: Verdict, words: str) -> None:
    finding = doctor_system.check_kernel(release)
    assert finding.verdict is verdict
    assert words in finding.message


def test_a_missing_fuse_device_names_the_cure(tmp_path: Path) -> None:
    finding = doctor_system.check_fuse_device(tmp_path / "fuse")
    assert finding.verdict is Verdict.BROKEN
    assert "--device /dev/fuse" in finding.cure
    (tmp_path / "fuse").touch()
    assert "not a device" in doctor_system.check_fuse_device(tmp_path / "fuse").message
    assert doctor_system.check_fuse_device(Path("/dev/null")).verdict is Verdict.OK


def test_fusermount_matters_to_users_other_than_root(tmp_path: Path) -> None:
    program = tmp_path / "fusermount3"
    program.touch(mode=0o755)
    assert doctor_system.check_fusermount(0, None).verdict is Verdict.OK
    assert "apt-get install" in doctor_system.check_fusermount(1000, None).cure
    assert "chmod u+s" in doctor_system.check_fusermount(1000, str(program)).cure
    program.chmod(0o4755)
    assert doctor_system.check_fusermount(1000, str(program)).verdict is Verdict.OK


def test_read_modes() -> None:
    def message(release: str, mask: int) -> str:
        return doctor_system.check_read_modes(release, mask).message

    assert message("6.9.0-1-amd64", 1 << 21) == "no-open, passthrough, plain"
    assert message("5.15.0", 1 << 21).endswith("Linux 5.15.0 has none (it came with 6.9)")
    assert "CAP_SYS_ADMIN" in message("6.12.3", 0)


def test_capabilities() -> None:
    assert "no CAP_SYS_ADMIN" in doctor_system.check_capabilities(0).message
    assert doctor_system.check_capabilities(1 << 21).message.startswith("CAP_SYS_ADMIN")
    assert doctor_system.effective_capabilities() >= 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("CapEff:\t0\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\n", ""),
        ("CapEff:\t0\nCapBnd:\t000001ffffdfffff\nNoNewPrivs:\t0\n", "CAP_SYS_ADMIN to no program"),
        ("CapEff:\t0\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\n", "no-new-privileges"),
        ("Name:\tan older kernel: says nothing\n", ""),
    ],
)
def test_what_keeps_fusermount_from_mounting(status: str, words: str) -> None:
    obstacle = doctor_system.mounting_obstacle(status)
    assert words in obstacle
    assert bool(words) == bool(obstacle)
    finding = doctor_system.check_capabilities(0, obstacle)
    assert (finding.verdict is Verdict.BROKEN) == bool(words)
    assert doctor_system.check_capabilities(1 << 21, obstacle).verdict is Verdict.OK


def test_a_cache_on_a_network_file_system_is_broken() -> None:
    cache = Path("/nas/cache")
    finding = doctor_cache.judge_mount(cache, MountFact("/nas", "nfs4", "server:/x"))
    assert finding.verdict is Verdict.BROKEN
    assert "FLUIDPY_CACHE_DIR" in finding.cure
    local = doctor_cache.judge_mount(cache, MountFact("/", "ext4", "/dev/vda"))
    assert local.message == "/nas/cache can be written, on ext4"


def test_mounts_that_answer_and_none(tmp_path: Path) -> None:
    assert doctor_mounts.check_mounts([])[0].message == "none"
    living = [MountPoint("0:1", tmp_path, "fuse.fluidpy", "pets")]
    assert doctor_mounts.check_mounts(living)[0].verdict is Verdict.OK


def test_each_mount_is_told_with_its_read_mode(tmp_path: Path) -> None:
    points = [
        MountPoint("0:1", tmp_path, "fuse.fluidpy", "pets"),
        MountPoint("0:2", tmp_path / "gone", "fuse.fluidpy", "dead"),
        MountPoint("0:3", Path("/"), "fuse.fluidpy", "another user's, without a record"),
    ]
    records = [
        MountRecord(path, "pets", "default", 1, 2, "plain", 0.0, read_mode_reason="asked for")
        for path in (tmp_path, tmp_path / "gone", tmp_path / "unmounted")
    ]
    gone, mode = doctor_mounts.check_mounts(points, records)
    assert gone.verdict is Verdict.BROKEN
    assert mode.message == f"{tmp_path}: read mode plain (asked for)"


def test_a_mount_that_does_not_answer(tmp_path: Path) -> None:
    gone = [MountPoint("0:1", tmp_path / "gone", "fuse.fluidpy", "pets")]
    (finding,) = doctor_mounts.check_mounts(gone)
    assert finding.verdict is Verdict.BROKEN
    assert finding.cure == f"fluidpy umount {tmp_path / 'gone'} --lazy"


def test_a_mount_of_another_user_is_not_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "statvfs", refuse)
    other = [MountPoint("0:1", tmp_path, "fuse.fluidpy", "pets")]
    assert doctor_mounts.check_mounts(other)[0].verdict is Verdict.OK


def test_a_cache_directory_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = doctor_cache.check_cache_directory(tmp_path / "file" / "cache")
    assert finding.verdict is Verdict.BROKEN
    assert "FLUIDPY_CACHE_DIR" in finding.cure


def test_runtime_directories(tmp_path: Path) -> None:
    def check(directory: Path) -> Verdict:
        settings = Settings(cache_dir=tmp_path, runtime_dir=directory)
        return doctor_cache.check_runtime_directory(settings).verdict

    private = Path("/tmp/fluidpy-doctor-test-nothing")
    assert check(private) is Verdict.OK
    open_one = tmp_path / "r"
    open_one.mkdir()
    open_one.chmod(0o777)
    assert check(open_one) is Verdict.BROKEN
    assert check(tmp_path / ("long" * 30)) is Verdict.BROKEN


def test_a_worker_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_mounts, "ANSWER_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    settings = Settings(cache_dir=tmp_path, runtime_dir=Path())
    assert doctor_mounts.check_worker(settings).verdict is Verdict.OK
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("worker.sock")
        listener.listen()
        finding = doctor_mounts.check_worker(settings)
        assert finding.verdict is Verdict.BROKEN
        assert "does not answer" in finding.message
    # Its socket is left, and nobody listens: the next use starts another.
    assert doctor_mounts.check_worker(settings).verdict is Verdict.OK


def test_status_shows_the_rest_beside_a_worker_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "ANSWER_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    settings = Settings(cache_dir=tmp_path, runtime_dir=Path())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("worker.sock")
        listener.listen()
        found = status.worker_status(settings)
    assert found is not None
    assert found["pid"] == os.getpid()
    assert "did not answer" in found["failure"]
    assert status.worker_lines(found)[1] == f"worker: process {os.getpid()}"


def test_doctor_as_json(command_line: CommandLine) -> None:
    finished = command_line.run("doctor", "-o", "json")
    findings = json.loads(finished.stdout)
    broken = [finding for finding in findings if finding["verdict"] == "broken"]
    assert finished.returncode == (1 if broken else 0)
    assert {"python", "libraries", "kernel", "cache-dir", "worker", "mounts"} <= {
        finding["check"] for finding in findings
    }
    assert all(finding["cure"] for finding in broken)


def test_doctor_reports_a_broken_configuration(command_line: CommandLine) -> None:
    command_line.environment["FLUIDPY_BLOCK_BYTES"] = "many"
    finished = command_line.run("doctor")
    assert finished.returncode == 1
    assert "block_bytes is 'many'" in finished.stdout.decode()
    del command_line.environment["FLUIDPY_BLOCK_BYTES"]
