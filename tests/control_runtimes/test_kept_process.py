"""Programs that mount, kept running: real processes, real mounts, and programs that misbehave."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.control import linux_processes as linux
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.process_order import LOG_FILE, STOPPING, ProcessOrder
from fluidpy.control.process_supervisor import take

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting without FUSE needs root")

MOUNTS = 'mount -t tmpfs client "$TARGET" && exec sleep 1000'


HANGS = """
import ctypes, os, struct, sys
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
target = os.environb[b"TARGET"]
assert ctypes.CDLL(None).mount(b"client", target, b"fuse.hangs", 0, options) == 0
while request := os.read(fd, 1 << 20):
    _, operation, unique = struct.unpack_from("=IIQ", request)
    if operation == 26:  # FUSE_INIT, the one request that is answered
        agreed = struct.pack("=IIIIHHI", 7, 31, 0, 0, 0, 0, 1 << 16).ljust(64, bytes(1))
        os.write(fd, struct.pack("=IiQ", 16 + len(agreed), 0, unique) + agreed)
"""


class Bed:
    """A kept process of a test's own, and what is to be mounted by it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.target = directory / "mount" / "thin-fuse"
        self.process = KeptProcess(directory / "process")

    def order(self, script: str, **more: object) -> ProcessOrder:
        values: dict[str, object] = {"ready_seconds": 20.0, "stop_seconds": 5.0, **more}
        return ProcessOrder(
            "the client",
            ("/bin/sh", "-c", script),
            target=str(self.target),
            environment={"TARGET": str(self.target)},
            **values,  # type: ignore[arg-type]
        )

    def await_true(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        limit = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < limit, (self.process.state(), self.log())
            time.sleep(0.02)

    def ready(self, order: ProcessOrder) -> None:
        self.process.begin(order)
        self.await_true(lambda: self.process.seen().ready)

    def failure(self, script: str, **more: object) -> str:
        """What is said of a program that does not do."""
        self.process.begin(self.order(script, **more))
        self.await_true(lambda: self.process.seen().failure)
        return self.process.seen().failure

    def log(self) -> str:
        path = self.process.directory / LOG_FILE
        return path.read_text() if path.exists() else ""

    def is_mounted(self) -> bool:
        return linux.type_at(str(self.target), linux.mount_table()) is not None


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    yield bed
    bed.process.end()
    assert not [m for m in linux.mount_table() if m.mount_point.startswith(str(tmp_path))]
    assert not linux.processes_with("FLUIDPY_RUNTIME_PROCESS", str(bed.process.directory))
    assert not bed.process.directory.exists()


@root
def test_it_is_ready_once_its_mount_is_there_and_leaves_nothing(bed: Bed) -> None:
    order = bed.order(MOUNTS, filesystem_type="tmpfs")
    bed.ready(order)
    assert bed.is_mounted()
    assert bed.process.follows(order)
    assert not bed.process.follows(bed.order("true"))
    bed.process.begin(order)
    assert bed.process.seen().restarts == 0, "it runs already"
    bed.process.end()
    assert not bed.is_mounted()


@root
@pytest.mark.parametrize("killed", ["client", "supervisor"])
def test_it_comes_back_after_a_kill(bed: Bed, killed: str) -> None:
    order = bed.order(MOUNTS)
    bed.ready(order)
    state = bed.process.state()
    assert state is not None
    if killed == "client":
        os.kill(state.client, signal.SIGKILL)
        bed.await_true(lambda: bed.process.seen().restarts == 1)
    else:
        os.kill(state.supervisor, signal.SIGKILL)
        bed.await_true(lambda: bed.process.supervisor_pid() is None)
        assert not bed.process.seen().ready
        bed.process.begin(order)
    bed.await_true(lambda: bed.process.seen().ready)
    assert len([m for m in linux.mount_table() if m.mount_point == str(bed.target)]) == 1


@root
def test_a_mount_whose_server_takes_questions_and_answers_none_is_told(bed: Bed) -> None:
    (bed.directory / "hangs.py").write_text(HANGS)
    script = f"exec {sys.executable} {bed.directory / 'hangs.py'}"
    failure = bed.failure(script, ready_seconds=2.0)
    assert "was not answered within 2 s" in failure


def test_a_program_that_prints_without_end_is_ended_when_asked(bed: Bed) -> None:
    bed.process.begin(ProcessOrder("the client", ("/usr/bin/yes",), stop_seconds=20.0))
    bed.await_true(lambda: bed.process.seen().ready)
    bed.await_true(lambda: len(bed.log()) > 100_000)
    last = bed.process.end()
    assert last is not None
    assert last.state == STOPPING, "its supervisor had to be killed"


@root
def test_a_program_outlives_a_full_disk_below_its_log_and_state(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", small], check=True)
    process = KeptProcess(small / "process")
    bed = Bed(tmp_path)
    bed.process = process
    order = ProcessOrder("the client", ("/bin/sh", "-c", "echo begun; exec sleep 1000"))
    try:
        bed.ready(order)
        state = process.state()
        assert state is not None
        with contextlib.suppress(OSError), open(small / "full", "wb", buffering=0) as full:
            while True:
                full.write(bytes(4096))
        os.kill(state.client, signal.SIGKILL)
        bed.await_true(lambda: not Path(f"/proc/{state.client}").exists())
        (small / "full").unlink()
        bed.await_true(lambda: process.seen().restarts == 1 and process.seen().ready)
        assert process.supervisor_pid() == state.supervisor
    finally:
        process.end()
        subprocess.run(["umount", "-l", small], check=True)


def test_a_supervisor_begins_although_somebody_looks_for_one(tmp_path: Path) -> None:
    looking = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    lock = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_EX)
    assert not take(lock, 0.0)
    release = threading.Timer(0.1, os.close, (looking,))
    release.start()
    assert take(lock, 60.0)
    release.join()
    os.close(lock)


@root
def test_it_sees_directories_at_other_places_and_all_see_what_it_mounts(bed: Bed) -> None:
    place, configuration = bed.directory / "etc-fluid", bed.directory / "configuration"
    configuration.mkdir()
    (configuration / "config.json").write_text("{}")
    script = f'cat {place}/config.json >"$TARGET.seen" && {MOUNTS}'
    bed.ready(bed.order(script, binds={str(place): str(configuration)}))
    assert bed.target.with_name("thin-fuse.seen").read_text() == "{}"
    assert bed.is_mounted()
    assert list(place.iterdir()) == [], "nobody else sees it there"


def test_secrets_are_kept_out_of_the_log(bed: Bed) -> None:
    script = "echo key hunter22; printf hunt; sleep 0.1; echo er22 again; exit 7"
    failure = bed.failure(script, redacted=("hunter22",))
    assert "exit status 7 before anything was mounted" in failure
    assert "hunter22" not in failure + bed.log()
    assert "key ***\n" in bed.log()
    state = bed.process.state()
    assert state is not None
    assert state.hidden >= 2


def test_ended_with_status_0(bed: Bed) -> None:
    assert "has to stay in the foreground" in bed.failure("echo ready")


def test_what_it_leaves_running_is_killed(bed: Bed) -> None:
    bed.failure("setsid sleep 1234 & sleep 0.1; exit 0")
    mine = str(bed.process.directory)
    assert len(linux.processes_with("FLUIDPY_RUNTIME_PROCESS", mine)) <= 3, "the next life's alone"


def test_nothing_mounted(bed: Bed) -> None:
    failure = bed.failure("echo waiting for the master; exec sleep 100", ready_seconds=2.0)
    assert "nothing was mounted at" in failure
    assert 'it said last: "waiting for the master"' in failure
    assert "readySeconds" in failure


@root
def test_mounted_elsewhere(bed: Bed) -> None:
    script = 'mkdir -p "$TARGET-other"; mount -t tmpfs client "$TARGET-other"; exec sleep 100'
    failure = bed.failure(script, ready_seconds=5.0)
    assert f"mounted at {bed.target}-other and not at {bed.target}" in failure


@root
def test_wrong_type(bed: Bed) -> None:
    failure = bed.failure(MOUNTS, filesystem_type="fuse.starfs")
    assert "of type tmpfs, and fuse.starfs is declared" in failure
    assert "runtime.yaml" in failure


@root
def test_unmounted_behind_its_back(bed: Bed) -> None:
    bed.ready(bed.order(MOUNTS))
    subprocess.run(["umount", str(bed.target)], check=True)
    bed.await_true(lambda: bed.process.seen().restarts == 1)
    assert "went away while the client ran" in bed.log()
    bed.await_true(lambda: bed.process.seen().ready)


@root
def test_ignores_sigterm(bed: Bed) -> None:
    stubborn = 'trap "" TERM; mount -t tmpfs client "$TARGET"; while :; do sleep 0.2; done'
    bed.ready(bed.order(stubborn, stop_seconds=0.5))
    log = bed.directory / "kept.log"
    os.link(bed.process.directory / LOG_FILE, log)
    bed.process.end()
    assert "did not end within 0.5 s of SIGTERM and was killed" in log.read_text()


@root
def test_a_program_has_its_time_to_stop_however_long_that_is(bed: Bed) -> None:
    saves = """sleep 1; umount "$TARGET"; touch "$TARGET.saved"; exit 0"""
    script = (
        f"""trap '{saves}' TERM; mount -t tmpfs client "$TARGET"; while :; do sleep 0.1; done"""
    )
    bed.ready(bed.order(script, stop_seconds=30.0))
    last = bed.process.end(seconds=0.5)
    assert bed.target.with_name("thin-fuse.saved").exists(), last
    assert last is not None
    assert not last.killed


@root
def test_the_unmount_command_is_run_for_a_supervisor_that_was_killed_too(bed: Bed) -> None:
    command = ("/bin/sh", "-c", 'umount "$0" && touch "$0.unmounted"', str(bed.target))
    bed.ready(bed.order(MOUNTS, unmount=command))
    state = bed.process.state()
    assert state is not None
    os.kill(state.supervisor, signal.SIGKILL)
    bed.await_true(lambda: bed.process.supervisor_pid() is None)
    bed.process.end()
    assert bed.target.with_name("thin-fuse.unmounted").exists()


@root
def test_nothing_is_left_when_its_directory_is_taken_away(bed: Bed) -> None:
    bed.ready(bed.order(MOUNTS))
    state = bed.process.state()
    assert state is not None
    ended = os.pidfd_open(state.supervisor)
    shutil.rmtree(bed.process.directory)
    os.kill(state.supervisor, signal.SIGTERM)
    assert select.select([ended], [], [], 30)[0]
    os.close(ended)
    assert not bed.is_mounted()


def test_no_program(bed: Bed) -> None:
    bed.process.begin(ProcessOrder("the client", ("/no/program",), target=str(bed.target)))
    bed.await_true(lambda: bed.process.seen().failure)
    assert "/no/program is not there" in bed.process.seen().failure


@root
def test_what_is_mounted_is_never_removed(tmp_path: Path) -> None:
    store, directory = tmp_path / "store", tmp_path / "directory"
    (directory / "mount").mkdir(parents=True)
    store.mkdir()
    (store / "precious").write_text("data")
    subprocess.run(["mount", "--bind", str(store), str(directory / "mount")], check=True)
    linux.remove_tree(directory)
    assert not directory.exists()
    assert (store / "precious").read_text() == "data"
