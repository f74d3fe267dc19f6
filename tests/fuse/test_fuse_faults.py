"""What goes wrong ends in the right bytes or a clear error, soon, and leaves nothing behind."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.cli.doctor_mounts import check_mounts
from fluidpy.cli.findings import Verdict
from fluidpy.errors import MountError, SourceAccessError, SourceUnavailableError
from fluidpy.fuse import mounting
from fluidpy.fuse.mount_record import MountRecord, log_path, read_records
from fluidpy.fuse.mount_table import mounted_at, read_mounts
from fluidpy.fuse.mounting import list_mounts, mount_dataset, unmount
from fluidpy.settings import Settings
from tests.fuse.conftest import Mounted, children_of
from tests.fuse.test_fuse_serving import stall_this_one, until, waits
from tests.fuse.tree_worker import TreeWorker, definition


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(record: MountRecord) -> bool:
    return not running(record.holder_pid) and not running(record.server_pid)


def test_unmounting_leaves_nothing(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    assert [r.holder_pid for r in list_mounts(fuse_settings)] == [record.holder_pid]
    assert record.dataset == "tree"
    unmount(mount_point, fuse_settings)
    assert mounted_at(mount_point) is None
    assert gone(record)
    assert list_mounts(fuse_settings) == []
    assert os.listdir(mount_point) == []
    assert mount_point.stat().st_ino != 1


def test_a_source_that_fails_at_once_mounts_nothing(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    worker.failure = SourceAccessError("the bucket refuses the key", cure="Check the secret.")
    with pytest.raises(SourceAccessError, match="Check the secret"):
        mounted()
    assert mounted_at(mount_point) is None
    assert read_records(fuse_settings) == []


def test_two_mounts_at_one_place_are_refused(mounted: Mounted, mount_point: Path) -> None:
    mounted()
    with pytest.raises(MountError, match=r"already\. Unmount it first"):
        mounted()
    assert (mount_point / "small.txt").read_bytes() == b"hello\n"


def test_errors_of_the_source_have_their_errno_and_a_line_in_the_log(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    worker.complete = False
    mounted()
    worker.failure = SourceUnavailableError("the source answers 503", cure="Wait for the source.")
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            (mount_point / "large.bin").read_bytes()
        assert caught.value.errno == errno.EIO
    log = log_path(fuse_settings, mount_point).read_text()
    assert log.count("the source answers 503. Wait for the source.") == 1
    assert str(mount_point) in log
    assert "large.bin" in log
    worker.failure = None
    assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stalled_read_can_be_given_up(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, number: signal.Signals
) -> None:
    worker.complete = False
    mounted()
    worker.stall = threading.Event()
    # Whoever runs the tests in the background lets their children ignore SIGINT.
    command = ["env", "--default-signal=INT", "cat", str(mount_point / "large.bin")]
    reader = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    assert waits(worker)
    reader.send_signal(number)
    assert reader.wait(timeout=60) == -number
    worker.stall.set()
    worker.stall = None
    assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]


def waiting_stat(path: Path, handler: str) -> subprocess.Popen[bytes]:
    """A process that calls `stat` on a path; SIGTERM and SIGCHLD are handled."""
    program = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGTERM, {handler})\n"
        "signal.signal(signal.SIGCHLD, lambda *_: None)\n"
        "print('ready', flush=True)\n"
        "os.stat(sys.argv[1])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_stalled_folder_answers_a_handler_of_an_ending_signal(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted()
    worker.stall = threading.Event()
    with waiting_stat(mount_point / "folder/inner.txt", "lambda *_: sys.exit(7)") as caller:
        assert waits(worker, "lookup")
        caller.send_signal(signal.SIGCHLD)
        caller.send_signal(signal.SIGTERM)
        assert caller.wait(timeout=60) == 7


def test_a_signal_in_passing_interrupts_nobody(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted()
    worker.stall = threading.Event()
    with waiting_stat(mount_point / "folder/inner.txt", "signal.SIG_DFL") as caller:
        assert waits(worker, "lookup")
        for number in (signal.SIGCHLD, signal.SIGSTOP, signal.SIGCONT):
            caller.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                caller.wait(timeout=0.4)
        worker.stall.set()
        assert caller.wait(timeout=60) == 0


def test_a_stalled_read_delays_nobody_else(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted()
    os.listdir(mount_point / "folder")
    worker.complete = False
    worker.stall = threading.Event()
    readers = [
        subprocess.Popen(["cat", mount_point / "large.bin"], stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert waits(worker)
    worker.complete = True
    assert (mount_point / "folder/inner.txt").read_bytes() == b"inner"
    assert [reader.poll() for reader in readers] == [None] * 3  # they wait as before
    worker.stall.set()
    assert [reader.wait(timeout=60) for reader in readers] == [0, 0, 0]


def test_a_worker_that_dies_costs_time_only(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    worker.complete = False
    mounted()
    worker.stall = threading.Event()
    reader = subprocess.Popen(["cat", mount_point / "large.bin"], stdout=subprocess.PIPE, bufsize=0)
    stall = stall_this_one(worker)
    worker.drop_peers()
    out, _ = reader.communicate(timeout=60)
    stall.set()
    assert out == worker.tree[b"large.bin"]
    assert (mount_point / "folder/inner.txt").read_bytes() == b"inner"


def test_a_worker_that_never_answers_ends_in_time(
    worker: TreeWorker, mount_point: Path, fuse_settings: Settings, mounted: Mounted
) -> None:
    hurried = replace(fuse_settings, source_deadline_seconds=0.5)
    worker.complete = False
    record = mount_dataset(
        definition(), mount_point, hurried, foreground=False, file=None, deadline=60
    )
    worker.stall = threading.Event()
    started = time.monotonic()
    with pytest.raises(OSError) as caught:
        (mount_point / "large.bin").read_bytes()
    assert caught.value.errno in (errno.ETIMEDOUT, errno.EIO)
    assert time.monotonic() - started < 60
    unmount(mount_point, hurried)
    assert gone(record)


def test_a_truncated_cache_file_gives_the_right_bytes(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, short_directory: Path
) -> None:
    mounted()
    fd = os.open(mount_point / "folder/deeper/x", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 128 * 1024)
    try:
        assert os.preadv(fd, [buffer], 0) == 70_000
        (cached,) = [p for p in short_directory.glob("object-*") if p.stat().st_size == 70_000]
        os.truncate(cached, 10)
        buffer[:70_000] = bytes(70_000)
        assert os.preadv(fd, [buffer], 0) == 70_000
        assert buffer[:70_000] == b"x" * 70_000
    finally:
        os.close(fd)
        buffer.close()


def test_a_busy_mount_names_its_users_and_leaves_lazily(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    with subprocess.Popen(["sleep", "30"], cwd=mount_point / "folder") as user:
        with pytest.raises(MountError, match=rf"sleep \({user.pid}\).*--lazy"):
            unmount(mount_point, fuse_settings)
        assert (mount_point / "small.txt").exists()
        unmount(mount_point, fuse_settings, lazy=True)
        assert mounted_at(mount_point) is None
        user.kill()
    assert until(lambda: gone(record))
    assert read_records(fuse_settings) == []


@pytest.mark.parametrize("end", ["let go", "told to end", "holder killed"])
def test_a_mount_that_left_lazily_leaves_the_next_one_alone(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings, end: str
) -> None:
    """The holder of the first once took down what was mounted at its directory by then."""
    first = mounted()
    held = os.open(mount_point / "large.bin", os.O_RDONLY)
    try:
        unmount(mount_point, fuse_settings, lazy=True)
        second = mounted()
        os.kill(first.server_pid, signal.SIGKILL)  # the next server's pid is noted, not in a record
        assert len(os.pread(held, 4096, 0)) == 4096
        if end == "told to end":
            os.kill(first.holder_pid, signal.SIGTERM)
        elif end == "holder killed":
            os.kill(first.holder_pid, signal.SIGKILL)
            assert until(lambda: not running(first.holder_pid))
    finally:
        os.close(held)
    assert until(lambda: gone(first))
    assert mounted_at(mount_point) is not None
    assert (mount_point / "small.txt").read_bytes() == b"hello\n"
    (record,) = list_mounts(fuse_settings)
    assert (record.holder_pid, record.failure) == (second.holder_pid, None)
    unmount(mount_point, fuse_settings)
    assert gone(second)


@pytest.mark.skipif(os.geteuid() != 0, reason="binds a folder as root")
def test_unmounting_what_is_bound_elsewhere_says_where(
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    short_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mounting, "END_SECONDS", 0.5)
    record = mounted()
    bound = short_directory / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", mount_point / "folder", bound], check=True)
    try:
        with pytest.raises(MountError) as caught:
            unmount(mount_point, fuse_settings)
        assert f"is unmounted, and still shown at {bound}" in caught.value.message
        assert (bound / "inner.txt").read_bytes() == b"inner"
    finally:
        subprocess.run(["umount", bound], check=True)
    assert until(lambda: gone(record))


def assert_ended(reader: subprocess.Popen[bytes]) -> None:
    """A reader that was waiting in the mount got an error, and does not hang."""
    assert reader.wait(timeout=60) != 0


@pytest.mark.parametrize("victims", [("holder",), ("holder", "server")])
def test_a_killed_process_takes_the_mount_down_cleanly(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    victims: tuple[str, ...],
) -> None:
    worker.complete = False
    record = mounted()
    worker.stall = threading.Event()
    reader = subprocess.Popen(
        ["cat", mount_point / "large.bin"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert waits(worker)
    assert until(lambda: len(children_of(record.holder_pid)) == 3)
    children = children_of(record.holder_pid)
    for victim in victims:
        os.kill(getattr(record, f"{victim}_pid"), signal.SIGKILL)
    assert_ended(reader)
    worker.stall.set()
    worker.stall = None
    if len(victims) == 1:
        assert until(lambda: mounted_at(mount_point) is None)
        assert until(lambda: gone(record))
        assert read_records(fuse_settings) == []
    assert until(lambda: gone(record))
    assert until(lambda: not any(running(pid) for pid in children))
    again = mounted()  # clears what is dead
    assert (mount_point / "small.txt").read_bytes() == b"hello\n"
    unmount(mount_point, fuse_settings)
    assert gone(again)


def test_doctor_sees_a_dead_mount_whose_root_the_kernel_remembers(
    mounted: Mounted, mount_point: Path
) -> None:
    record = mounted()
    mount_point.stat()
    os.kill(record.holder_pid, signal.SIGSTOP)
    children = children_of(record.holder_pid)
    for pid in (record.server_pid, record.holder_pid):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: gone(record) and not any(running(pid) for pid in children))
    points = [point for point in read_mounts() if point.directory == mount_point]
    (finding,) = check_mounts(points)
    assert finding.verdict is Verdict.BROKEN
    assert "the process that served it is gone" in finding.message


FOREGROUND = """
import sys
from pathlib import Path
from fluidpy.errors import FluidpyError
from fluidpy.fuse.mounting import mount_dataset
from fluidpy.settings import load_settings
from tests.fuse.tree_worker import definition
mount_dataset(definition(), Path(sys.argv[1]), load_settings(), foreground=True, file=None,
              deadline=60, on_ready=lambda record: print(record.server_pid, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_mount_in_the_foreground_ends_with_a_signal(
    worker: TreeWorker, mount_point: Path, fuse_settings: Settings, number: signal.Signals
) -> None:
    environment = {
        **os.environ,
        "FLUIDPY_RUNTIME_DIR": str(fuse_settings.runtime_dir),
        "FLUIDPY_CACHE_DIR": str(fuse_settings.cache_dir),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", FOREGROUND, str(mount_point)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        assert (mount_point / "small.txt").read_bytes() == b"hello\n"
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == b"ended\n"
    assert mounted_at(mount_point) is None
    assert not running(server)


def test_secrets_are_in_no_argument_and_no_environment(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    from fluidpy.namespace.definition import MountDefinition
    from fluidpy.storage.under_storage import MountSource

    source = MountSource("file:///nowhere", label="data", secrets={"key": "hush-hush"})
    record = mounted(mounts=(MountDefinition("data", "/", source),))
    for pid in (record.holder_pid, record.server_pid):
        for name in ("cmdline", "environ"):
            assert b"hush-hush" not in Path(f"/proc/{pid}/{name}").read_bytes()
    for path in fuse_settings.runtime_dir.rglob("*"):
        if path.is_file():
            assert b"hush-hush" not in path.read_bytes()


def test_processes_hold_only_the_fds_they_need(mounted: Mounted) -> None:
    inherited = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        record = mounted()
        for pid in (record.holder_pid, record.server_pid):
            open_files = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            assert os.path.realpath("/etc/hostname") not in open_files
            assert open_files.count("/dev/fuse") == 1
    finally:
        os.close(inherited)
