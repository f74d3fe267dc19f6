from __future__ import annotations

import errno
import io
import itertools
import mmap
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fluidpy.client.bulk_read import merged
from fluidpy.client.file import DatasetFile, ObjectReader
from fluidpy.client.session import DatasetSession, clip
from fluidpy.errors import CacheError, SourceChangedError, errno_of
from tests.client.fake_worker import BLOCK, FakeWorker

CONTENT = random.Random(1).randbytes(10 * BLOCK + 123)


def _open(session: DatasetSession, path: str) -> DatasetFile:
    return DatasetFile(ObjectReader(session, session.open_object(path)), path)


def _reads(fake: FakeWorker) -> list[tuple[int, int]]:
    return [(m["start"], m["end"]) for m in fake.requests if m["op"] == "read"]


def test_a_complete_file_is_read_without_the_worker(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT)
    with _open(session, "a") as file:
        asked = len(fake.requests)
        assert file.read() == CONTENT
        file.seek(-5, os.SEEK_END)
        assert file.read(100) == CONTENT[-5:]
        assert file.seek(3) == file.tell() == 3
        into = bytearray(10)
        assert file.readinto(into) == 10
        assert into == CONTENT[3:13]
        assert len(fake.requests) == asked


def test_a_complete_file_can_be_mapped_and_its_offset_is_its_own(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT)
    with _open(session, "a") as file, _open(session, "a") as other:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == CONTENT
        os.lseek(file.fileno(), 77, os.SEEK_SET)
        assert other.read(10) == CONTENT[:10]
        assert os.lseek(other.fileno(), 0, os.SEEK_CUR) != 77


def test_lines_text_and_iteration(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("a", b"one\ntwo\nthree", complete=False)
    with _open(session, "a") as file:
        assert file.readline() == b"one\n"
        assert list(file) == [b"two\n", b"three"]
    with io.TextIOWrapper(_open(session, "a"), encoding="utf-8") as text:
        assert text.read().splitlines() == ["one", "two", "three"]


def test_an_empty_file_asks_nothing(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("empty", b"", complete=False)
    with _open(session, "empty") as file:
        assert file.read() == b""
        assert file.size == 0
    assert _reads(fake) == []


def test_a_partial_file_asks_for_whole_blocks_and_for_each_once(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT, complete=False)
    with ObjectReader(session, session.open_object("a")) as reader:
        assert reader.read_range(BLOCK + 10, BLOCK + 20) == CONTENT[BLOCK + 10 : BLOCK + 20]
        assert reader.read_range(BLOCK, 2 * BLOCK) == CONTENT[BLOCK : 2 * BLOCK]
        assert _reads(fake) == [(BLOCK, 2 * BLOCK)]
        assert reader.read_range(0, 1 << 40) == CONTENT
        spans = _reads(fake)
    assert all(start % BLOCK == 0 for start, _ in spans)
    assert max(end for _, end in spans) == len(CONTENT)


def test_a_partial_file_has_no_fileno_until_it_is_complete(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT, complete=False)
    with _open(session, "a") as file:
        with pytest.raises(io.UnsupportedOperation, match="not in the cache as a whole"):
            file.fileno()
        file.read(10)
        fake.files["a"].fill(0, len(CONTENT))
        fake.files["a"].complete = True
        file.read()
        assert os.pread(file.fileno(), 5, 0) == CONTENT[:5]
        asked = len(fake.requests)
        file.seek(0)
        assert file.read() == CONTENT
        assert len(fake.requests) == asked


@given(
    st.lists(st.tuples(st.integers(0, len(CONTENT) + 99), st.integers(0, 3 * BLOCK)), max_size=8),
    st.booleans(),
)
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_reads_give_what_a_plain_file_gives(
    fake: FakeWorker, session: DatasetSession, reads: list[tuple[int, int]], keep: bool
) -> None:
    fake.keep = keep
    fake.put("a", CONTENT, complete=False)
    plain = io.BytesIO(CONTENT)
    with _open(session, "a") as file:
        for position, length in reads:
            assert file.seek(position) == plain.seek(position)
            assert file.read(length) == plain.read(length)


def test_bytes_that_are_not_kept_come_through_memfds(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.keep = False
    fake.put("a", CONTENT, complete=False)
    session.entry("a")
    fake.settle()
    before = len(os.listdir("/proc/self/fd"))
    with _open(session, "a") as file:
        assert file.read() == CONTENT
        file.seek(5)
        assert file.read(5) == CONTENT[5:10]
    fake.settle()
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_threads_read_one_file(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("a", CONTENT, complete=False)
    with ObjectReader(session, session.open_object("a")) as reader, ThreadPoolExecutor(8) as pool:

        def check(start: int) -> bool:
            return reader.read_range(start, start + 5000) == CONTENT[start : start + 5000]

        assert all(pool.map(check, random.Random(2).choices(range(len(CONTENT)), k=100)))


def test_a_reader_goes_on_with_a_new_worker(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("a", CONTENT, complete=False)
    with _open(session, "a") as file:
        assert file.read(BLOCK) == CONTENT[:BLOCK]
        fake.restart()
        assert file.read() == CONTENT[BLOCK:]


def test_a_worker_that_dies_in_the_midst_of_a_read_costs_time_only(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT, complete=False)
    asked, dead = threading.Event(), threading.Event()

    def hook(operation: str, _: object) -> None:
        if operation == "read" and not dead.is_set():
            asked.set()
            dead.wait(10)

    fake.hook = hook
    with _open(session, "a") as file, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(file.read)
        asked.wait(10)
        session.connection.close()
        dead.set()
        fake.restart()
        assert reading.result() == CONTENT


def test_a_version_that_is_gone_is_estale_never_a_mix(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT, complete=False)
    with _open(session, "a") as file:
        assert file.read(BLOCK) == CONTENT[:BLOCK]
        fake.put("a", CONTENT[::-1], complete=False)
        fake.restart()
        with pytest.raises(SourceChangedError) as caught:
            file.read()
        assert errno_of(caught.value) == errno.ESTALE


def test_an_old_handle_of_a_complete_file_finishes_on_its_version(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT)
    with _open(session, "a") as file:
        file.read(1)
        fake.files["a"].path.unlink()
        fake.put("a", b"new")
        file.seek(0)
        assert file.read() == CONTENT
        with _open(session, "a") as new:
            assert new.read() == b"new"


def test_a_truncated_cache_file_is_an_error_not_zeros(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", CONTENT)
    with _open(session, "a") as file:
        os.truncate(fake.files["a"].path, 100)
        fake.hook = lambda operation, message: None
        fake.files["a"].fill = lambda start, end: None  # type: ignore[method-assign]
        with pytest.raises(CacheError, match="are cut off"):
            file.read()


def test_closing_gives_back_fd_and_handle(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("a", b"x")
    session.entry("a")
    fake.settle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(40):
        with _open(session, "a") as file:
            file.read()
            file.close()
    session.entry("a")
    fake.settle()
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(fake.released) == list(range(1, 41))


@given(st.none() | st.integers(-20, 20), st.none() | st.integers(-20, 20), st.integers(0, 15))
def test_bounds_mean_what_a_slice_means(start: int | None, end: int | None, size: int) -> None:
    data = bytes(range(size))
    first, last = clip(start, end, size)
    assert data[first:last] == data[start:end]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))), st.integers(1, 10))
def test_merged_spans_cover_the_same_bytes_and_stand_apart(
    spans: list[tuple[int, int]], gap: int
) -> None:
    joined = merged(spans, gap)
    assert all(b[0] - a[1] >= gap for a, b in itertools.pairwise(joined))
    wanted = {byte for start, end in spans for byte in range(start, end)}
    covered = {byte for start, end in joined for byte in range(start, end)}
    assert wanted <= covered
    assert all(start in wanted and end - 1 in wanted for start, end in joined)


def test_bytes_read_while_the_file_was_opened_anew_are_not_believed(
    fake: FakeWorker, session: DatasetSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may close the fd meanwhile, and its number be another file's."""
    fake.put("a", CONTENT)
    with ObjectReader(session, session.open_object("a")) as reader:
        read = os.preadv

        def read_of_another_file(fd: int, buffers: list[memoryview], position: int) -> int:
            monkeypatch.setattr(os, "preadv", read)
            reader._reopen(time.monotonic() + 10)
            buffers[0][:] = b"?" * len(buffers[0])
            return len(buffers[0])

        monkeypatch.setattr(os, "preadv", read_of_another_file)
        into = bytearray(100)
        assert reader.read_into(memoryview(into), 7) == 100
        assert into == CONTENT[7:107]
