"""A server that is killed costs its readers a moment, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fluidpy.fuse.control import HandOver, receive_hand_over, socket_pair, tell
from fluidpy.fuse.mount_record import MountRecord, log_path
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.fuse.mounting import list_failures, list_mounts, unmount
from fluidpy.settings import Settings
from tests.fuse.conftest import Mounted, children_of
from tests.fuse.test_fuse_faults import gone, running
from tests.fuse.test_fuse_serving import seen, stall_this_one, until, waits
from tests.fuse.tree_worker import TreeWorker

WORST_SECONDS = 20.0
"""No call on the mount may take longer, on a busy machine either: it is tens of ms on a quiet one.
Without any server a reader waits for 30 s, and then gets an error."""


def now_mounted(settings: Settings) -> MountRecord:
    """The record of the only mount, as it is now."""
    (record,) = list_mounts(settings)
    return record


def kill_server(settings: Settings) -> MountRecord:
    """Kills the server; the record once another has followed."""
    before = now_mounted(settings)
    os.kill(before.server_pid, signal.SIGKILL)
    assert until(lambda: now_mounted(settings).restarts == before.restarts + 1)
    after = now_mounted(settings)
    assert after.server_pid != before.server_pid
    assert after.holder_pid == before.holder_pid
    return after


def environment(settings: Settings) -> dict[str, str]:
    """That of a command of the user whose mount it is."""
    return {
        **os.environ,
        "FLUIDPY_RUNTIME_DIR": os.fspath(settings.runtime_dir),
        "FLUIDPY_CACHE_DIR": os.fspath(settings.cache_dir),
    }


@contextmanager
def readers(mount_point: Path, worker: TreeWorker, count: int) -> Iterator[list[float]]:
    """Reads, lists and looks at the tree all the time; the calls' seconds. Any error is raised."""
    ended = threading.Event()
    took: list[float] = []
    names = [n for n, content in worker.tree.items() if isinstance(content, bytes) and n != b"link"]
    names = [n for n in names if n not in (b"absolute", b"dangling")]

    def work(number: int) -> None:
        turn = number
        while not ended.is_set():
            name = names[turn % len(names)]
            started = time.monotonic()
            path = Path(os.fsdecode(os.path.join(os.fsencode(mount_point), name)))
            assert path.read_bytes() == worker.tree[name]
            assert len(os.listdir(mount_point / "folder")) == 2
            assert not (mount_point / "none").exists()
            took.append(time.monotonic() - started)
            turn += 1

    with ThreadPoolExecutor(count) as pool:
        futures: list[Future[None]] = [pool.submit(work, number) for number in range(count)]
        try:
            yield took
        finally:
            ended.set()
        for future in futures:
            future.result(timeout=60)


@pytest.mark.parametrize("complete", [True, False])
def test_a_killed_server_is_followed_by_another(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    complete: bool,
) -> None:
    worker.complete = complete
    first = mounted()
    with (mount_point / "large.bin").open("rb") as stream:
        assert stream.read(1000) == worker.tree[b"large.bin"][:1000]  # type: ignore[index]
        record = kill_server(fuse_settings)
        assert record.restarts == 1
        assert stream.read() == worker.tree[b"large.bin"][1000:]  # type: ignore[index]
    assert seen(mount_point) == worker.tree
    unmount(mount_point, fuse_settings)
    assert gone(first)
    assert gone(record)


def test_twenty_kills_under_readers_are_not_noticed(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    worker.complete = False
    mounted()
    with readers(mount_point, worker, 4) as took:
        for number in range(1, 21):
            assert kill_server(fuse_settings).restarts == number
            calls = len(took)
            assert until(lambda calls=calls: len(took) > calls)  # type: ignore[misc]
    assert max(took) < WORST_SECONDS
    assert seen(mount_point) == worker.tree
    unmount(mount_point, fuse_settings)


def test_a_read_that_waits_for_a_slow_source_is_asked_again(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    worker.complete = False
    mounted()
    worker.stall = threading.Event()
    with subprocess.Popen(["cat", mount_point / "large.bin"], stdout=subprocess.PIPE) as reader:
        stall = stall_this_one(worker)
        kill_server(fuse_settings)
        out, _ = reader.communicate(timeout=60)
        stall.set()
    assert reader.returncode == 0
    assert out == worker.tree[b"large.bin"]


def test_who_waits_through_a_restart_can_be_killed(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    """INTERRUPT names the request as it was sent the second time."""
    worker.complete = False
    mounted()
    worker.stall = threading.Event()
    reader = subprocess.Popen(["cat", mount_point / "large.bin"], stdout=subprocess.DEVNULL)
    assert waits(worker)
    asked = len(worker.requests)
    kill_server(fuse_settings)
    assert until(lambda: any(m.get("op") == "read" for m in worker.requests[asked:]))
    reader.send_signal(signal.SIGTERM)
    assert reader.wait(timeout=60) == -signal.SIGTERM
    worker.stall.set()


def test_a_listing_goes_on_where_it_was(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    names = {f"file-{number:05d}" for number in range(3000)}
    worker.tree.update({b"folder/" + name.encode(): b"" for name in names})
    mounted()
    with os.scandir(mount_point / "folder") as entries:
        found = {next(entries).name}
        kill_server(fuse_settings)
        found.update(entry.name for entry in entries)
    assert found == names | {"inner.txt", "deeper"}


@pytest.mark.parametrize("told", ["before", "after"])
def test_changes_reach_readers_through_a_restart(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    told: str,
) -> None:
    record = mounted()
    path = mount_point / "small.txt"
    assert path.read_bytes() == b"hello\n"
    if told == "before":  # and not passed on to the kernel
        os.kill(record.server_pid, signal.SIGSTOP)
        worker.change(b"small.txt", b"another text\n")
        worker.list_directory(1)
    kill_server(fuse_settings)
    if told == "after":
        worker.change(b"small.txt", b"another text\n")
        worker.list_directory(1)
    assert until(lambda: path.read_bytes() == b"another text\n")


def test_a_new_worker_and_a_new_server_at_once_miss_no_change(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    path = mount_point / "small.txt"
    assert path.read_bytes() == b"hello\n"
    os.kill(record.server_pid, signal.SIGSTOP)
    worker.change(b"small.txt", b"another text\n")
    worker.list_directory(1)
    worker.pushed.clear()
    worker.pid += 1  # as if another process were the worker by now
    worker.drop_peers()
    kill_server(fuse_settings)
    assert until(lambda: path.read_bytes() == b"another text\n")


def helpers_of(record: MountRecord) -> list[int]:
    """The processes that a holder has ready beside its server."""
    return [pid for pid in children_of(record.holder_pid) if pid != record.server_pid]


def test_the_spare_that_was_ready_takes_over(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    """No interpreter starts while readers wait. A spare with an old order may just be replaced, so
    that one kill alone says little."""
    mounted()
    for _ in range(4):
        assert until(lambda: len(helpers_of(now_mounted(fuse_settings))) == 2)
        ready = helpers_of(now_mounted(fuse_settings))
        assert until(lambda: all(has_come_to_rest(pid) for pid in ready))  # noqa: B023
        if kill_server(fuse_settings).server_pid in ready:
            break
    else:
        raise AssertionError("servers that were forked after the kill took over")
    assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]


def has_come_to_rest(pid: int) -> bool:
    """Whether a process waited all the time for a tenth of a second."""
    for _ in range(10):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            return False
        time.sleep(0.01)
    return True


def test_what_waits_for_its_turn_is_replaced_when_it_ends(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    for _ in range(2):
        assert until(lambda: len(helpers_of(now_mounted(fuse_settings))) == 2)
        for pid in helpers_of(now_mounted(fuse_settings)):
            os.kill(pid, signal.SIGKILL)
            assert until(lambda pid=pid: not running(pid))  # type: ignore[misc]
        kill_server(fuse_settings)
        assert (mount_point / "small.txt").read_bytes() == b"hello\n"
    assert until(lambda: len(helpers_of(now_mounted(fuse_settings))) == 2)
    unmount(mount_point, fuse_settings)
    assert gone(record)


def test_all_but_the_holder_are_killed_together(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    for pid in children_of(record.holder_pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]
    assert until(lambda: now_mounted(fuse_settings).restarts >= 1)


def test_a_restart_does_not_wait_for_the_worker(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    mounted()
    os.listdir(mount_point / "folder")
    fuse_settings.worker_socket.unlink()
    fuse_settings.worker_socket.mkdir()  # so that none can be started, either
    worker.drop_peers()
    kill_server(fuse_settings)
    assert (mount_point / "folder/inner.txt").stat().st_size == 5
    fuse_settings.worker_socket.rmdir()


def test_servers_that_fail_again_and_again_end_the_mount_with_a_reason(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    short_directory: Path,
) -> None:
    record = mounted()
    os.listdir(mount_point)
    worker.catalog_path.rename(short_directory / "lost")
    worker.catalog_path.mkdir()
    started = time.monotonic()
    os.kill(record.server_pid, signal.SIGKILL)
    with pytest.raises(OSError):
        os.listdir(mount_point / "folder")
    assert time.monotonic() - started < 90
    assert until(lambda: gone(record))
    assert mounted_at(mount_point) is None
    assert list_mounts(fuse_settings) == []
    (failed,) = list_failures(fuse_settings)
    assert failed.failure is not None
    assert "10 servers failed within 60 s" in failed.failure
    log = log_path(fuse_settings, mount_point).read_text()
    assert failed.failure in log
    assert log.count("catalog") >= 5  # a busy machine's are ended before some of them say it
    fuse_settings.worker_socket.unlink()  # the worker of these tests has no status
    run = subprocess.run(
        [sys.executable, "-m", "fluidpy", "status"],
        env=environment(fuse_settings),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{mount_point} is mounted no longer: {failed.failure}\n" in run.stdout


@pytest.mark.slow
def test_helpers_that_hang_are_passed_over(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    assert until(lambda: len(helpers_of(record)) == 2)
    helpers = helpers_of(record)
    # Until then the holder does not know the spare's pid.
    assert until(lambda: all(has_come_to_rest(pid) for pid in helpers))
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    os.kill(record.server_pid, signal.SIGKILL)
    assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]
    assert now_mounted(fuse_settings).restarts == 1
    assert until(lambda: not any(running(pid) for pid in helpers))


@pytest.mark.slow
def test_a_server_that_answers_nothing_is_replaced(
    worker: TreeWorker, mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    """It is there, and stopped, so that whoever reads waits."""
    record = mounted()
    os.kill(record.server_pid, signal.SIGSTOP)
    assert (mount_point / "large.bin").read_bytes() == worker.tree[b"large.bin"]
    assert now_mounted(fuse_settings).restarts == 1
    assert not running(record.server_pid)
    assert "answers nothing" in log_path(fuse_settings, mount_point).read_text()


@pytest.mark.slow
def test_a_server_that_does_not_see_the_unmount_is_ended(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    record = mounted()
    os.kill(record.server_pid, signal.SIGSTOP)
    unmount(mount_point, fuse_settings)
    assert not running(record.server_pid)
    assert not running(record.holder_pid)
    assert list_mounts(fuse_settings) == []


def test_status_tells_of_restarts(
    mounted: Mounted, mount_point: Path, fuse_settings: Settings
) -> None:
    mounted()
    record = kill_server(fuse_settings)
    table = Path(log_path(fuse_settings, mount_point)).read_text()
    assert f"server {record.server_pid} took over after" in table
    run = subprocess.run(
        [sys.executable, "-c", STATUS],
        env=environment(fuse_settings),
        capture_output=True,
        text=True,
        check=True,
    )
    (shown,) = json.loads(run.stdout)
    assert (shown["restarts"], shown["serverPid"], shown["holderPid"]) == (
        1,
        record.server_pid,
        record.holder_pid,
    )
    assert {"readMode", "readModeReason"} <= shown.keys()


STATUS = """
import json
from fluidpy.fuse.mounting import list_mounts
from fluidpy.settings import load_settings
print(json.dumps([record.to_wire() for record in list_mounts(load_settings())]))
"""
"""What `fluidpy status -o json` shows of mounts; the worker of these tests has no status."""


def test_ten_thousand_backing_ids_fit_into_a_hand_over() -> None:
    backings = [(row * 1_000_003, row, row * 7_000_001) for row in range(10_000)]
    sent = HandOver({"minor": 40}, None, backings, list(range(5000)), resend=True)
    ours, theirs = socket_pair()
    with ours, theirs:
        assert tell(ours, {"serve": sent.to_wire()}, (0, 1))
        received = receive_hand_over(theirs)
    assert received is not None
    hand_over, fds = received
    for fd in fds:
        os.close(fd)
    assert len(fds) == 2
    assert [tuple(backing) for backing in hand_over.backings] == backings
    assert hand_over.retired == list(range(5000))
