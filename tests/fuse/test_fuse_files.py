"""READ against a worker and a reader that answer exactly when the test says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from fluidpy.errors import FluidpyError, WorkerTimeoutError
from fluidpy.fuse.device import Device
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.files import Files
from fluidpy.fuse.kernel import READ_IN
from fluidpy.fuse.open_files import HeldFd, OpenFileTable
from fluidpy.fuse.range_reader import Done, Piece, RangeReader
from fluidpy.fuse.requests_in_flight import RequestsInFlight, TroubleLog
from fluidpy.fuse.worker_link import Answer, LinkLostError, OnAnswer, WorkerLink
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.storage.under_storage import Kind

BLOCK = 4096
ROW = 5


class FakeCatalog:
    def get(self, row: int) -> Entry:
        return Entry(row, 1, b"f", Kind.FILE, 4 * BLOCK, 0, None, row, b"v", 0, True)

    def path_of(self, row: int) -> bytes:
        return b"f"


class FakeLink:
    """Keeps each request until the test answers it."""

    def __init__(self) -> None:
        self.generation = 1
        self.connected = True
        self.asked: list[tuple[str, dict[str, Any], float, OnAnswer]] = []
        self.released: list[int] = []

    def call(
        self,
        operation: str,
        fields: dict[str, Any],
        deadline: float,
        on_answer: OnAnswer,
        *,
        survives: bool = False,
    ) -> int:
        self.asked.append((operation, fields, deadline, on_answer))
        return len(self.asked)

    def release(self, handle: int, generation: int) -> None:
        self.released.append(handle)

    def take(self, operation: str) -> tuple[dict[str, Any], Callable[..., None]]:
        """The oldest request, which must be of that kind, and what answers it."""
        asked, fields, _deadline, on_answer = self.asked.pop(0)
        assert asked == operation

        def answer(
            ok: dict[str, Any] | None = None,
            fds: Sequence[int] = (),
            error: FluidpyError | None = None,
        ) -> None:
            on_answer(Answer(ok or {}, list(fds), error))

        return fields, answer


class FakeReader:
    """Keeps each read of a cache file until the test ends it; then reads its bytes."""

    def __init__(self, replies: dict[int, bytes]) -> None:
        self.jobs: list[tuple[int, Sequence[Piece], Done]] = []
        self._replies = replies

    def send(self, unique: int, pieces: Sequence[Piece], done: Done) -> None:
        self.jobs.append((unique, list(pieces), done))

    def finish(self, error: OSError | None = None) -> None:
        unique, pieces, done = self.jobs.pop(0)
        if error is None:
            self._replies[unique] = b"".join(os.pread(p.fd, p.length, p.offset) for p in pieces)
        done(error)


class FakeDevice:
    def __init__(self) -> None:
        self.errors: dict[int, int] = {}

    def reply_error(self, unique: int, code: int) -> None:
        self.errors[unique] = code


class Bench:
    """`Files` on fakes."""

    def __init__(self, loop: EventLoop, directory: Path) -> None:
        self.directory = directory
        self.replies: dict[int, bytes] = {}
        self.link, self.device = FakeLink(), FakeDevice()
        self.reader = FakeReader(self.replies)
        device = cast("Device", self.device)
        self.files = Files(
            loop,
            device,
            cast("CatalogReader", FakeCatalog()),
            cast("WorkerLink", self.link),
            RequestsInFlight(device, TroubleLog("test")),
            reader=cast("RangeReader", self.reader),
            table=OpenFileTable(100),
            block_bytes=BLOCK,
            deadline=10.0,
        )

    def read(self, unique: int, block: int) -> None:
        body = READ_IN.pack(0, block * BLOCK, BLOCK, 0)
        self.files.read(unique, 2 * ROW, memoryview(body))

    def cache_file(self, name: str, blocks: dict[int, bytes]) -> int:
        """The fd of a sparse file that has these blocks."""
        path = self.directory / name
        with path.open("wb") as stream:
            stream.truncate(4 * BLOCK)
            for block, content in blocks.items():
                stream.seek(block * BLOCK)
                stream.write(content * BLOCK)
        return os.open(path, os.O_RDONLY)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def bench(tmp_path: Path, clock: Time) -> Iterator[Bench]:
    loop = EventLoop(clock)
    bench = Bench(loop, tmp_path)
    yield bench
    bench.files.close()
    loop.close()


def begin_reading_the_first_file(bench: Bench) -> None:
    """Block 0 is in the first cache file, whose read waits for the disk."""
    first = bench.cache_file("first", {0: b"a"})
    bench.read(1, 0)
    bench.link.take("open")[1]({"handle": 11, "complete": False}, [first])
    bench.link.take("read")[1]({"fd": False})
    assert len(bench.reader.jobs) == 1


def test_a_file_kept_anew_by_the_next_worker_is_read_from_its_new_fd(bench: Bench) -> None:
    begin_reading_the_first_file(bench)
    bench.link.generation = 2
    second = bench.cache_file("second", {1: b"b"})
    bench.read(2, 1)
    bench.link.take("open")[1]({"handle": 1, "complete": False}, [second])
    fields, answer = bench.link.take("read")
    assert fields["handle"] == 1
    answer({"fd": False})
    bench.reader.finish()
    bench.reader.finish()
    assert bench.replies == {1: b"a" * BLOCK, 2: b"b" * BLOCK}


def test_an_answer_about_an_earlier_fd_is_not_believed_of_the_new_one(bench: Bench) -> None:
    begin_reading_the_first_file(bench)
    bench.read(2, 1)
    _, late = bench.link.take("read")
    bench.reader.finish(OSError(5, "Input/output error"))
    second = bench.cache_file("second", {0: b"a"})
    bench.link.take("open")[1]({"handle": 12, "complete": False}, [second])
    bench.link.take("read")[1]({"fd": False})
    late({"fd": False})
    fields, answer = bench.link.take("read")
    assert fields == {"handle": 12, "start": BLOCK, "end": 2 * BLOCK}
    with (bench.directory / "second").open("r+b") as stream:
        stream.seek(BLOCK)
        stream.write(b"b" * BLOCK)
    answer({"fd": False})
    bench.reader.finish()
    bench.reader.finish()
    assert bench.replies == {1: b"a" * BLOCK, 2: b"b" * BLOCK}


def test_a_lost_worker_is_waited_for_and_not_asked_over_and_over(bench: Bench) -> None:
    begin_reading_the_first_file(bench)
    bench.read(2, 1)
    bench.link.connected = False
    bench.link.take("read")[1](error=LinkLostError("gone"))
    fields, _ = bench.link.take("open")
    assert fields == {"entry": ROW}
    assert bench.link.asked == []


def test_an_old_handle_of_a_complete_file_is_not_put_to_the_next_worker(bench: Bench) -> None:
    whole = bench.cache_file("whole", {0: b"a", 1: b"b"})
    bench.read(1, 0)
    bench.link.take("open")[1]({"handle": 11, "complete": False}, [whole])
    bench.read(2, 1)
    bench.link.take("read")[1]({"fd": False, "complete": True})
    bench.link.generation = 2
    bench.link.take("read")[1](error=LinkLostError("gone"))
    assert [asked[0] for asked in bench.link.asked] == ["open"]


def test_a_read_outlives_an_open_that_had_less_time(bench: Bench, clock: Time) -> None:
    bench.read(1, 0)
    clock.now += 9.9
    bench.read(2, 0)
    clock.now += 0.2
    bench.link.take("open")[1](error=WorkerTimeoutError("too late"))
    assert list(bench.device.errors) == [1]
    assert bench.link.asked[0][0] == "open"
    assert bench.link.asked[0][2] == pytest.approx(9.8)


def test_a_dropped_fd_is_closed_after_its_last_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    held = HeldFd(fd)
    held.use()
    held.drop()
    assert os.pread(fd, 1, 0) == b"x"
    held.done()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
