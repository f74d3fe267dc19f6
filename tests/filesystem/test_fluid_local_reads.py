"""Warm files are read without the worker, and still are right whatever happens to them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client import local_reads
from fluidpy.client.connection import WorkerConnection, close_connections, connection_for
from fluidpy.client.local_reads import HeldFiles
from fluidpy.client.local_uses import TOLD_SECONDS
from fluidpy.client.start import connect
from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import YAML, Demo, serve, wait_for_end

SIZE = 100_000
A_TELLING = TOLD_SECONDS + 0.1
"""After this long the next use is told."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that this process asks the worker from now on."""
    seen: list[str] = []
    call = WorkerConnection.call

    def noted(self: WorkerConnection, operation: str, **fields: Any) -> Any:
        seen.append(str(operation))
        return call(self, operation, **fields)

    monkeypatch.setattr(WorkerConnection, "call", noted)
    return seen


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files that are old enough to be kept."""
    source = tmp_path_factory.mktemp("settled")
    make_files(source)
    time.sleep(2.1)
    return source


@pytest.fixture
def warm_demo(settled: Path) -> Iterator[Demo]:
    """A Dataset of the twelve files, which the test leaves alone, with a worker of its own."""
    with serve(settled) as served:
        yield served


def make_files(source: Path) -> None:
    (source / "data").mkdir(parents=True)
    for number in range(12):
        (source / f"data/{number}.bin").write_bytes(content(number))


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def warm(fs: FluidFileSystem, asked: list[str], paths: list[str]) -> None:
    """Reads files until that asks nothing of the worker: the index has them all then."""
    limit = time.monotonic() + 60
    while True:
        del asked[:]
        for path in paths:
            fs.cat_file(path)
        if not asked:
            return
        assert time.monotonic() < limit, asked
        time.sleep(0.02)


PATHS = [f"demo/data/{number}.bin" for number in range(12)]


def worker_pid(demo: Demo) -> int:
    return int(connection_for(demo.settings).call("status", deadline=60)[0]["pid"])


def counters(demo: Demo) -> dict[str, Any]:
    found: dict[str, Any] = connection_for(demo.settings).call("status", deadline=60)[0]["counters"]
    return found


def cache_files(demo: Demo) -> list[Path]:
    return [p for p in (demo.settings.cache_dir / "store/objects").rglob("*") if p.is_file()]


def test_warm_files_are_read_without_asking(warm_demo: Demo, asked: list[str]) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    assert fs.cat_file(PATHS[1]) == content(1)
    assert fs.cat_file(PATHS[1], -10, -5) == content(1)[-10:-5]
    assert fs.cat_file(PATHS[1], 5, 2) == b""
    assert fs.cat_file(PATHS[1], SIZE - 3, SIZE + 9) == content(1)[-3:]
    assert fs.cat(PATHS[2]) == content(2)
    assert fs.cat_ranges(PATHS, 3, 9) == [content(n)[3:9] for n in range(12)]
    with fs.open(PATHS[3]) as file:
        assert file.read(10) == content(3)[:10]
        assert file.read() == content(3)[10:]
        assert os.pread(file.fileno(), 5, 0) == content(3)[:5]
    assert fs.info(PATHS[4])["size"] == SIZE
    assert fs.isdir("demo/data")
    assert not asked


def test_a_dead_worker_is_not_missed_while_files_are_warm(
    warm_demo: Demo, asked: list[str]
) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    pid = worker_pid(warm_demo)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    del asked[:]
    for _ in range(2):
        for number, path in enumerate(PATHS):
            assert fs.cat_file(path) == content(number)
            with fs.open(path) as file:
                assert file.read() == content(number)
        time.sleep(A_TELLING)
    assert not asked
    assert connect(warm_demo.settings) is None


def test_what_a_new_worker_knows_not_yet_is_told_later(warm_demo: Demo, asked: list[str]) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    warm_demo.stop_worker()
    other = FluidFileSystem(**warm_demo.options, skip_instance_cache=True)
    assert other.cat_file(PATHS[0]) == content(0)  # starts the next worker
    time.sleep(A_TELLING)
    before = counters(warm_demo)["opens"]
    fs.cat_file(PATHS[1])
    time.sleep(A_TELLING)
    for path in PATHS:
        fs.cat_file(path)
    time.sleep(A_TELLING)
    fs.cat_file(PATHS[1])
    assert counters(warm_demo)["opens"] - before >= 12


def test_once_the_listing_is_too_old_the_worker_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setenv("FLUIDPY_METADATA_TTL_SECONDS", "1")
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"old bytes")
    time.sleep(2.1)
    with serve(source) as demo:
        fs = demo.fs
        warm(fs, asked, ["demo/a"])
        (source / "a").write_bytes(b"new, more bytes")
        changed = began = time.monotonic()
        while (found := fs.cat_file("demo/a")) == b"old bytes":
            assert began < changed + 1.5  # what is read later than that finds the new bytes
            began = time.monotonic()
        assert found == b"new, more bytes"
        assert "open" in asked


def test_a_refresh_counts_at_once(tmp_path: Path, asked: list[str]) -> None:
    source = tmp_path / "source"
    make_files(source)
    time.sleep(2.1)
    with serve(source) as demo:
        fs = demo.fs
        warm(fs, asked, PATHS)
        path = source / "data/5.bin"
        path.write_bytes(b"changed")
        assert fs.cat_file(PATHS[5]) == content(5)  # fresh for five minutes
        other = FluidFileSystem(**demo.options, skip_instance_cache=True)
        other.info(PATHS[5], refresh=True)
        assert fs.cat_file(PATHS[5]) == b"changed"
        path.unlink()
        other.ls("demo/data", refresh=True)
        with pytest.raises(FileNotFoundError):
            fs.cat_file(PATHS[5])
        assert not fs.exists(PATHS[5])


def _cut(path: Path) -> None:
    os.truncate(path, 1000)


def _alter(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"not these")


@pytest.mark.parametrize("how", [_cut, _alter, Path.unlink], ids=["cut", "altered", "removed"])
def test_damaged_cache_files_cost_time_only(
    warm_demo: Demo, asked: list[str], how: Callable[[Path], None]
) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    files = cache_files(warm_demo)
    assert len(files) == 12
    for file in files:
        how(file)
    for number, path in enumerate(PATHS):
        assert fs.cat_file(path) == content(number)
        with fs.open(path) as opened:
            assert opened.read() == content(number)
    assert "open" in asked
    warm(fs, asked, PATHS)  # mended, and found again


def test_a_file_cut_while_it_is_open_is_read_on(warm_demo: Demo, asked: list[str]) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    with fs.open(PATHS[6]) as file:
        assert file.read(10) == content(6)[:10]
        assert not asked
        for path in cache_files(warm_demo):
            _cut(path)
        file.seek(50_000)
        assert file.read() == content(6)[50_000:]


def test_an_evicted_file_that_is_open_is_read_on(warm_demo: Demo, asked: list[str]) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    with fs.open(PATHS[6]) as file:
        evict(warm_demo, fs)
        assert file.read() == content(6)


def evict(demo: Demo, fs: FluidFileSystem) -> None:
    dataset = fs._session("demo").attachment().dataset
    connection_for(demo.settings).call("evict", deadline=60, dataset=dataset, path="")


def _read_in_a_loop(options: dict[str, Any], seed: int, until: Any, results: Any) -> None:
    fs, noise, reads = FluidFileSystem(**options), random.Random(seed), 0
    while not until.is_set() or not reads:
        number = noise.randrange(12)
        if noise.random() < 0.5:
            data = fs.cat_file(PATHS[number])
        else:
            with fs.open(PATHS[number]) as file:
                data = file.read()
        if data != content(number):
            results.put(f"wrong bytes of {number}")
            return
        reads += 1
    results.put(reads)


def test_processes_read_right_bytes_while_all_is_evicted_again_and_again(
    warm_demo: Demo, asked: list[str]
) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    context = multiprocessing.get_context("fork")
    until, results = context.Event(), context.Queue()
    readers = [
        context.Process(target=_read_in_a_loop, args=(warm_demo.options, seed, until, results))
        for seed in range(3)
    ]
    for reader in readers:
        reader.start()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        evict(warm_demo, fs)
        time.sleep(0.05)
    until.set()
    reads = [results.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join(60)
    assert all(isinstance(one, int) and one > 0 for one in reads), reads


def test_uses_are_counted_also_those_of_forked_children(warm_demo: Demo, asked: list[str]) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    fs._session("demo").close()
    before = counters(warm_demo)
    for path in PATHS:
        fs.cat_file(path)
    child = os.fork()
    if child == 0:
        try:
            for path in PATHS:
                fs.cat_file(path)
            fs._session("demo").close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    fs._session("demo").close()
    after = counters(warm_demo)
    grown = {name: after[name] - before[name] for name in ("opens", "hits", "bytes_from_cache")}
    assert grown == {"opens": 24, "hits": 24, "bytes_from_cache": 24 * SIZE}


def test_few_bytes_are_held_open_without_the_worker(
    warm_demo: Demo, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    monkeypatch.setattr(local_reads, "HELD", HeldFiles(3 * SIZE))
    files = [fs.open(path) for path in PATHS[:3]]
    assert not asked
    files.append(fs.open(PATHS[3]))
    assert asked == ["open"]
    files.pop(0).close()
    files.append(fs.open(PATHS[4]))
    assert asked == ["open"]
    for file in files:
        file.close()


def test_closed_connections_leave_no_file_of_the_cache_open(
    warm_demo: Demo, asked: list[str]
) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    assert open_below(warm_demo.settings.cache_dir)
    close_connections()
    assert not open_below(warm_demo.settings.cache_dir)
    assert fs.cat_file(PATHS[3]) == content(3)


def open_below(directory: Path) -> list[str]:
    """The files below a directory that this process has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in links if link.startswith(str(directory))]


def test_a_dataset_that_is_defined_anew_is_read_anew(
    warm_demo: Demo, asked: list[str], tmp_path: Path
) -> None:
    """The new source has other bytes at the same paths, of the same size and time."""
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    other_source = tmp_path / "other"
    make_files(other_source)
    for number in range(12):
        path = other_source / f"data/{number}.bin"
        path.write_bytes(content(number + 100))
        times = (warm_demo.source / f"data/{number}.bin").stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    Path(warm_demo.options["file"]).write_text(YAML.format(source=other_source))
    other = FluidFileSystem(**warm_demo.options, skip_instance_cache=True)
    assert other.cat_file(PATHS[1]) == content(101)
    assert [fs.cat_file(path) for path in PATHS] == [content(n + 100) for n in range(12)]


def test_a_catalog_that_is_lost_is_the_workers_business(warm_demo: Demo, asked: list[str]) -> None:
    fs = warm_demo.fs
    warm(fs, asked, PATHS)
    warm_demo.stop_worker()
    for place in (warm_demo.settings.catalogs_dir, warm_demo.settings.cache_dir / "store"):
        for path in place.glob("*.sqlite*"):
            path.unlink()
    assert [fs.cat_file(path) for path in PATHS] == [content(n) for n in range(12)]
    warm(fs, asked, PATHS)


def test_a_filesystem_that_is_forgotten_leaves_no_database_open(
    warm_demo: Demo, asked: list[str]
) -> None:
    fs = FluidFileSystem(**warm_demo.options, skip_instance_cache=True)
    warm(fs, asked, PATHS)
    reads = fs._session("demo").local()  # outlives its session, as in a cycle that is collected
    directory = warm_demo.settings.cache_dir
    assert len({path for path in open_below(directory) if path.endswith(".sqlite")}) == 2
    del fs
    gc.collect()
    assert not [path for path in open_below(directory) if ".sqlite" in path]
    del reads
