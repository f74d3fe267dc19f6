"""Which looked-up files of a passthrough mount are fetched before they are opened."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

import pytest

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.backed_files import BackedFiles
from fluidpy.fuse.expected_reads import MOST_EXPECTED
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
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

    def open(self, entry: EntryTuple) -> int | None:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
        self.files[fd] = entry[0]
        return fd

    def advise(self, fd: int, _offset: int, _length: int, _advice: int) -> None:
        self.fetched.append(self.files[fd])

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
    made = BackedFiles(cache, LIMIT)
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
