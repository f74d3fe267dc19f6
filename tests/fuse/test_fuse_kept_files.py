"""Which cache files a mount holds open for the next epoch, and when it lets go of them."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.direct_files import DROP_FILES
from fluidpy.fuse.expected_reads import MOST_EXPECTED
from fluidpy.fuse.kept_files import MOST_KEPT, KeptFiles
from fluidpy.fuse.server import raise_fd_limit

LIMIT = 3


class View:
    """Opens a file for each row, and counts how often."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened: list[int] = []
        self.known: set[int] = set()
        self.state = 1
        self.absent: set[int] = set()

    def path(self, row: int) -> Path:
        return self.directory / str(row)

    def open(self, entry: EntryTuple) -> int | None:
        row = entry[0]
        if row in self.absent:
            return None
        self.opened.append(row)
        self.known.add(row)
        self.path(row).write_bytes(b"%d" % row)
        os.utime(self.path(row), ns=(1, 1))  # long ago: clocks of file systems tick slowly
        return os.open(self.path(row), os.O_RDONLY)

    def found_before(self, row: int) -> bool:
        return row in self.known

    def forget(self, row: int) -> None:
        self.known.discard(row)

    def generation(self) -> int:
        return self.state


class Leases:
    def __init__(self) -> None:
        self.taken: dict[int, int] = {}

    def take(self, row: int, ino: int) -> None:
        self.taken[row] = ino

    def give_back(self, row: int) -> None:
        del self.taken[row]


@pytest.fixture
def view(tmp_path: Path) -> View:
    return View(tmp_path)


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def files(view: View, leases: Leases) -> Iterator[KeptFiles]:
    before = len(os.listdir("/proc/self/fd"))
    made = KeptFiles(view, leases, LIMIT)
    yield made
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def read(files: KeptFiles, row: int, *, times: int = 1) -> bytes | None:
    content = None
    for _ in range(times):
        fd = files.open((row, 1, b"n", 1, 1, 0, None, row, b"v", 0, True))
        if fd is None:
            return None
        content = os.pread(fd, 100, 0)
        os.close(fd)
    return content


def test_what_is_read_once_is_neither_held_nor_leased(files: KeptFiles, leases: Leases) -> None:
    for row in range(10):
        assert read(files, row) == b"%d" % row
    assert not len(files)
    assert not leases.taken


def test_what_is_read_again_is_held_with_a_lease(
    files: KeptFiles, view: View, leases: Leases
) -> None:
    assert read(files, 5, times=4) == b"5"
    assert view.opened == [5, 5]
    assert leases.taken == {5: view.path(5).stat().st_ino}


def test_a_held_file_is_open_to_be_read_past_the_kernels_pages(
    files: KeptFiles, view: View
) -> None:
    read(files, 5, times=2)
    kept = files.files[5]
    if not kept.unbuffered:
        pytest.skip("the file system here reads through the kernel's pages only")
    assert fcntl.fcntl(kept.fd, fcntl.F_GETFL) & os.O_DIRECT
    fd = files.open((5, 1, b"n", 1, 1, 0, None, 5, b"v", 0, True))
    assert fd is not None
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
    os.close(fd)
    assert files.is_unchanged(5, kept)
    with view.path(5).open("r+b") as stream:
        stream.write(b"x")
    assert not files.is_unchanged(5, kept)
    assert not len(files)


def test_while_one_request_waits_for_another_pages_are_needed(files: KeptFiles) -> None:
    assert not files.needs_no_pages(5)
    read(files, 5, times=2)
    one_by_one = True
    files.may_wait = lambda: one_by_one
    assert files.needs_no_pages(5) == files.files[5].unbuffered
    one_by_one = False
    assert not files.needs_no_pages(5)


def test_a_file_that_is_shorter_than_its_entry_says_is_not_held(
    files: KeptFiles, leases: Leases
) -> None:
    for _ in range(3):
        fd = files.open((5, 1, b"n", 1, 2, 0, None, 5, b"v", 0, True))
        assert fd is not None
        os.close(fd)
    assert not len(files)
    assert not leases.taken


def test_where_the_file_system_knows_pages_only_held_files_are_read_through_them(
    files: KeptFiles, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def without(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", without)
    assert read(files, 5, times=3) == b"5"
    assert leases.taken.keys() == {5}
    assert not files.files[5].unbuffered


def test_a_file_that_left_the_cache_is_let_go_of(
    files: KeptFiles, view: View, leases: Leases
) -> None:
    read(files, 5, times=2)
    files.leave([5, 6])
    assert not len(files)
    assert not leases.taken
    view.absent.add(5)
    assert read(files, 5) is None


def test_after_a_change_the_file_is_looked_for_again(
    files: KeptFiles, view: View, leases: Leases
) -> None:
    read(files, 5, times=2)
    view.state = 2
    view.absent.add(5)
    assert read(files, 5) is None
    assert not leases.taken


def test_a_held_file_that_somebody_altered_in_place_is_not_read_from(
    files: KeptFiles, view: View, leases: Leases
) -> None:
    assert read(files, 5, times=3) == b"5"
    with view.path(5).open("r+b") as stream:
        stream.write(b"x")
    view.absent.add(5)  # as the index has it, it is not the file that it was
    assert read(files, 5) is None
    assert not leases.taken
    view.absent.remove(5)
    assert read(files, 5, times=4) == b"5"
    assert leases.taken.keys() == {5}


def test_no_more_files_are_held_than_allowed(files: KeptFiles, view: View, leases: Leases) -> None:
    for row in range(LIMIT + 2):
        read(files, row, times=2)
    assert len(files) == LIMIT
    assert set(leases.taken) == {2, 3, 4}


def test_none_is_held_where_none_may_be(files: KeptFiles, leases: Leases) -> None:
    files.limit = 0
    assert read(files, 5, times=3) == b"5"
    assert not leases.taken


@pytest.mark.parametrize("hard", [512, 1024, 4096, 1 << 20])
def test_all_that_a_server_holds_at_once_is_within_its_limit_of_open_files(
    hard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    most_open, most_held = raise_fd_limit()
    assert raised == [(hard, hard)]
    sockets_and_catalog = 32
    assert most_open + most_held + MOST_EXPECTED + DROP_FILES + sockets_and_catalog <= hard
    assert most_held > 0
    if hard == 1 << 20:
        assert most_held >= MOST_KEPT
