"""Which files of a passthrough mount are fetched before they are opened."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.backed_files import BackedFiles
from fluidpy.fuse.expected_reads import MOST_EXPECTED
from fluidpy.fuse.pages_in_memory import all_in_memory
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
from fluidpy.fuse.whole_reads import ONE_OF
from fluidpy.namespace.catalog import Entry
from fluidpy.storage.under_storage import Kind

LIMIT = 3


def entry_of(row: int, size: int = 100_000) -> Entry:
    return Entry(row, 1, b"%d" % row, Kind.FILE, size, 0, None, row, b"v", 0, True)


class Cache:
    """Opens a file of its own for each row, and remembers what was fetched."""

    def __init__(self) -> None:
        self.files: dict[int, int] = {}
        self.fetched: list[int] = []
        self.in_memory: set[int] = set()

    def open(self, entry: EntryTuple) -> int | None:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
        self.files[fd] = entry[0]
        self.in_memory.discard(fd)
        return fd

    def advise(self, fd: int, _offset: int, _length: int, _advice: int) -> None:
        self.fetched.append(self.files[fd])
        self.in_memory.add(fd)

    def still_open(self) -> int:
        return sum(os.path.exists(f"/proc/self/fd/{fd}") for fd in self.files)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    made = Cache()
    monkeypatch.setattr(os, "posix_fadvise", made.advise)
    yield made
    assert not made.still_open()


@pytest.fixture
def files(cache: Cache) -> Iterator[BackedFiles]:
    made = BackedFiles(cache, LIMIT, lambda fd: fd in cache.in_memory)
    yield made
    made.close()


def read_often(files: BackedFiles, row: int = 1, *, times: int = 20) -> None:
    for _ in range(times):
        files.looked_up(entry_of(row))
        files.opened(row, lambda _row: None)


def test_files_are_fetched_where_look_ups_are_followed_by_opens(
    files: BackedFiles, cache: Cache
) -> None:
    read_often(files)
    cache.fetched.clear()
    files.looked_up(entry_of(2))
    assert cache.fetched == [2]


def test_nothing_is_fetched_for_who_only_looks_names_up(files: BackedFiles, cache: Cache) -> None:
    read_often(files)
    for row in range(100, 100 + 3 * MOST_EXPECTED):
        files.looked_up(entry_of(row))
    cache.fetched.clear()
    files.looked_up(entry_of(2))
    assert not cache.fetched


@pytest.mark.parametrize(
    "use",
    [
        lambda files: files.looked_up(entry_of(9, LARGE_FILE_BYTES)),
        lambda files: files.opened(9, lambda _row: None),
    ],
)
def test_large_files_and_opens_without_a_look_up_are_left_alone(
    files: BackedFiles, cache: Cache, use: Callable[[BackedFiles], None]
) -> None:
    read_often(files)
    cache.fetched.clear()
    use(files)
    assert not cache.fetched


def test_no_more_files_are_held_than_allowed(files: BackedFiles, cache: Cache) -> None:
    read_often(files)
    for row in range(2, 10):
        files.looked_up(entry_of(row))
    assert len(files) == cache.still_open() == LIMIT


def test_a_file_that_left_the_cache_is_opened_anew(files: BackedFiles, cache: Cache) -> None:
    read_often(files)
    files.leave(1)
    assert not cache.still_open()
    files.leave(1)
    read_often(files)
    assert cache.still_open() == 1


def test_a_file_that_is_opened_again_is_fetched_with_the_next_open(
    files: BackedFiles, cache: Cache
) -> None:
    for _ in range(2):
        files.fetch(5)
        files.opened(5, entry_of)
    assert not cache.fetched
    files.fetch(5)
    assert cache.fetched == [5]
    files.leave(5)
    files.fetch(5)
    assert cache.fetched == [5]


def test_a_large_file_that_is_opened_again_is_not_held(files: BackedFiles, cache: Cache) -> None:
    for _ in range(3):
        files.fetch(5)
        files.opened(5, lambda row: entry_of(row, LARGE_FILE_BYTES))
    assert not cache.fetched
    assert not len(files)


def test_no_more_files_are_held_for_opens_than_allowed(files: BackedFiles, cache: Cache) -> None:
    for row in [*range(10), *range(10)]:
        files.opened(row, entry_of)
    assert len(files) == cache.still_open() == LIMIT


def test_a_large_file_is_looked_up_in_the_catalog_once(files: BackedFiles) -> None:
    asked: list[int] = []

    def find(row: int, size: int = LARGE_FILE_BYTES) -> Entry:
        asked.append(row)
        return entry_of(row, size)

    for _ in range(5):
        files.opened(5, find)
    assert asked == [5]
    files.leave(5)
    files.opened(5, lambda row: find(row, 100_000))
    assert len(files) == 1, "another file, a small one, stands for the row now"


def open_cold(files: BackedFiles, cache: Cache, times: int, *, read: bool, by_name: bool) -> int:
    """Opens files whose pages are not in memory, again and again; how many were fetched."""
    count = 0
    for number in range(times):
        row = 1 + number % LIMIT
        cache.in_memory.clear()
        cache.fetched.clear()
        if by_name:
            files.looked_up(entry_of(row))
        files.fetch(row)
        count += bool(cache.fetched)
        files.opened(row, entry_of)
        if read:
            cache.in_memory.update(cache.files)
        files.closed(row)
    return count


ways = pytest.mark.parametrize("by_name", [False, True])


@ways
def test_who_reads_headers_only_is_soon_left_alone(
    files: BackedFiles, cache: Cache, by_name: bool
) -> None:
    assert open_cold(files, cache, 100, read=False, by_name=by_name) <= ONE_OF
    assert open_cold(files, cache, 100, read=False, by_name=by_name) == 0


@ways
def test_for_who_reads_all_of_each_file_nearly_all_are_fetched(
    files: BackedFiles, cache: Cache, by_name: bool
) -> None:
    open_cold(files, cache, 2 * LIMIT, read=True, by_name=False)  # they are held from now on
    fetched = open_cold(files, cache, 10 * ONE_OF, read=True, by_name=by_name)
    assert 9 * ONE_OF <= fetched < 10 * ONE_OF


@ways
def test_who_reads_all_again_has_files_fetched_again(
    files: BackedFiles, cache: Cache, by_name: bool
) -> None:
    open_cold(files, cache, 300, read=True, by_name=by_name)
    open_cold(files, cache, 300, read=False, by_name=by_name)
    assert open_cold(files, cache, 100, read=False, by_name=by_name) == 0
    open_cold(files, cache, 20, read=True, by_name=by_name)
    assert open_cold(files, cache, 100, read=True, by_name=by_name) >= 90


def test_files_that_are_in_memory_say_nothing(files: BackedFiles, cache: Cache) -> None:
    open_cold(files, cache, 2 * LIMIT, read=True, by_name=False)
    for read in (False, True):  # headers are read, then whole files, and they stay in memory
        for _ in range(10 * ONE_OF):
            files.fetch(1)
            files.closed(1)
        assert open_cold(files, cache, 20, read=read, by_name=False) >= 19
        cache.in_memory.update(cache.files)


def test_where_the_kernel_does_not_tell_every_file_is_fetched(cache: Cache) -> None:
    files = BackedFiles(cache, LIMIT, lambda _fd: None)
    for _ in range(2):
        files.opened(1, entry_of)
    for _ in range(3 * ONE_OF):
        files.fetch(1)
        files.closed(1)
    files.close()
    assert len(cache.fetched) == 3 * ONE_OF


def test_the_kernel_tells_whether_all_pages_of_a_file_are_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(4 << 20))
    with path.open("rb", buffering=0) as stream:
        fd = stream.fileno()
        if all_in_memory(fd) is None:
            pytest.skip("cachestat(2) is not to be had here")
        assert all_in_memory(fd)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if all_in_memory(fd):
            pytest.skip("the kernel keeps the file in memory")
        os.pread(fd, 4096, 0)
        assert all_in_memory(fd) is False
        while stream.read(1 << 20):
            pass
        assert all_in_memory(fd)
