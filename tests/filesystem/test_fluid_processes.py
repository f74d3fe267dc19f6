from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidpy.client.connection import connection_for
from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import Demo, serve, wait_for_end

FILES = [f"demo/train/{number}.bin" for number in range(5)] + ["demo/train/large.bin"]


def digest_of(fs: FluidFileSystem, path: str) -> str:
    with fs.open(path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def digest_of_pickled(pickled: bytes, path: str) -> str:
    return digest_of(pickle.loads(pickled), path)


def worker_pid(demo: Demo) -> int:
    ok, _ = connection_for(demo.settings).call("status", deadline=60)
    return int(ok["pid"])


def test_a_file_system_is_one_instance_and_survives_pickling(fs: FluidFileSystem) -> None:
    again = pickle.loads(pickle.dumps(fs))
    assert again is fs
    assert FluidFileSystem.from_json(fs.to_json()) is fs


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_read_through_the_same_worker(
    fs: FluidFileSystem, demo: Demo, method: str
) -> None:
    wanted = [digest_of(fs, path) for path in FILES]
    before = worker_pid(demo)
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        jobs = [(pickle.dumps(fs), path) for path in FILES]
        assert pool.starmap(digest_of_pickled, jobs) == wanted
        pool.close()
        pool.join()
    assert worker_pid(demo) == before


def test_a_forked_child_uses_what_it_inherited(fs: FluidFileSystem, demo: Demo) -> None:
    data = (demo.source / "train/large.bin").read_bytes()
    file = fs.open("demo/train/large.bin")
    file.read(10)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            right = file.read() == data[10:] and fs.find("demo/train/deep") != []
            right = right and len(fs.cat(FILES)) == len(FILES)
            file.close()
            os._exit(0 if right else 3)
        except BaseException:  # noqa: BLE001 - the child must not go on as a test run
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert file.read() == data[10:]
    file.close()


def test_threads_share_a_file_system(fs: FluidFileSystem) -> None:
    wanted = {path: digest_of(fs, path) for path in FILES}
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda path: (path, digest_of(fs, path)), FILES * 20))
    assert all(wanted[path] == digest for path, digest in found)


def test_killing_the_worker_costs_readers_time_only(tmp_path: Path) -> None:
    content = os.urandom(20_000_000)
    (tmp_path / "a").write_bytes(content)
    past = 1_600_000_000
    os.utime(tmp_path / "a", (past, past))
    with serve(tmp_path) as own:
        with own.fs.open("demo/a") as file:
            assert file.read(100) == content[:100]
            done = threading.Event()

            def kill() -> None:
                for _ in range(3):
                    pid = worker_pid(own)
                    os.kill(pid, signal.SIGKILL)
                    wait_for_end(pid)
                    if done.wait(0.2):
                        return

            killer = threading.Thread(target=kill)
            killer.start()
            pieces = [content[:100]]
            while piece := file.read(300_000):
                pieces.append(piece)
            done.set()
            killer.join()
        assert b"".join(pieces) == content


def test_a_forked_child_reads_ranges_after_its_parent_did(fs: FluidFileSystem) -> None:
    """The parent's reading threads are not in the child, which must not wait for them."""
    assert len(fs.cat_ranges(FILES[:3], 0, 10, on_error="raise")) == 3
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            found = fs.cat_ranges(FILES[3:], 0, 10, on_error="raise")
            os._exit(0 if len(found) == 3 else 3)
        except BaseException:  # noqa: BLE001 - the child must not go on as a test run
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
