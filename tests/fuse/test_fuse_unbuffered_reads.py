"""READs answered past the kernel's pages: when, with what, and when not."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.aligned_memory import page_aligned
from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.direct_files import DirectFiles
from fluidpy.fuse.disk_pace import DiskPace
from fluidpy.fuse.kept_files import KeptFiles
from fluidpy.fuse.unbuffered_reads import UnbufferedReads

LARGEST = 1024 * 1024
ODD = 100_000


class View:
    """Cache files by row, found from the first time on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, row: int, content: bytes) -> EntryTuple:
        path = self.directory / str(row)
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))  # long ago: clocks of file systems tick slowly
        return (row, 1, b"n", 1, len(content), 0, None, row, b"v", 0, True)

    def open(self, entry: EntryTuple) -> int | None:
        return os.open(self.directory / str(entry[0]), os.O_RDONLY)

    def found_before(self, _row: int) -> bool:
        return True

    def forget(self, row: int) -> None:
        """Nothing is remembered."""

    def generation(self) -> int:
        return 1


class Leases:
    def take(self, row: int, ino: int) -> None:
        """Nobody asks."""

    def give_back(self, row: int) -> None:
        """Nobody asks."""


class Kernel:
    def __init__(self) -> None:
        self.answers: dict[int, bytes] = {}

    def reply(self, unique: int, payload: memoryview) -> None:
        self.answers[unique] = bytes(payload)


class Waiting:
    company = 0


class Bed:
    def __init__(self, directory: Path) -> None:
        self.view = View(directory)
        self.files = KeptFiles(self.view, Leases(), 100)
        self.kernel, self.waiting = Kernel(), Waiting()
        self.pace = DiskPace()
        self.used: list[int] = []
        self.reads = UnbufferedReads(
            self.kernel,
            self.waiting,
            self.files,
            view=page_aligned(LARGEST),
            pace=self.pace,
            clock=time.monotonic,
            on_used=self.used.append,
        )

    def keep(self, row: int, content: bytes) -> None:
        fd = self.files.open(self.view.put(row, content))
        assert fd is not None
        os.close(fd)
        if not self.files.files[row].unbuffered:
            pytest.skip("the file system here reads through the kernel's pages only")


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    yield bed
    bed.files.close()


@pytest.mark.parametrize("size", [1, mmap.PAGESIZE, ODD, LARGEST - 1, LARGEST])
def test_a_kept_file_is_answered_whole(bed: Bed, size: int) -> None:
    content = os.urandom(size)
    bed.keep(5, content)
    assert bed.reads.answer(7, 5, LARGEST)
    assert bed.kernel.answers == {7: content}
    assert bed.used == [5]


def test_a_read_of_less_than_the_file_is_left_to_others(bed: Bed) -> None:
    bed.keep(5, os.urandom(ODD))
    assert not bed.reads.answer(7, 5, ODD - 1)
    assert not bed.reads.answer(7, 6, LARGEST)
    assert not bed.kernel.answers
    assert not bed.used


def in_company(bed: Bed) -> None:
    bed.waiting.company = 1


def on_a_slow_disk(bed: Bed) -> None:
    bed.pace.took(100.0)


@pytest.mark.parametrize("hinder", [in_company, on_a_slow_disk])
def test_nobody_waits_for_the_disk_behind_it(bed: Bed, hinder: Callable[[Bed], None]) -> None:
    bed.keep(5, b"content")
    assert bed.files.needs_no_pages(5)
    hinder(bed)
    assert not bed.reads.answer(7, 5, LARGEST)
    assert not bed.files.needs_no_pages(5)
    assert len(bed.files)


def test_a_file_that_was_altered_is_neither_answered_nor_kept(bed: Bed) -> None:
    bed.keep(5, b"content")
    (bed.view.directory / "5").write_bytes(b"changed")
    assert not bed.reads.answer(7, 5, LARGEST)
    assert not len(bed.files)
    assert not bed.kernel.answers


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_read_that_fails_is_left_to_others_and_a_refused_one_not_tried_again(
    bed: Bed, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.keep(5, b"content")

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", fail)
        assert not bed.reads.answer(7, 5, LARGEST)
    assert not bed.kernel.answers
    assert bed.pace.seconds > 0  # a dying disk takes its time, too
    assert bed.reads.answer(8, 5, LARGEST) == (code == errno.EIO)
    assert len(bed.files)


def test_names_that_are_looked_up_keep_nobody_from_reading_past_the_pages(bed: Bed) -> None:
    """Whose look-ups were followed by reads had held files fetched through pages for ever."""
    direct = DirectFiles(
        bed.files, on_used=bed.used.append, close=lambda _file: None, kept=bed.files
    )
    bed.keep(1, b"is there a file system for it")
    entries = [bed.view.put(row, os.urandom(ODD)) for row in range(10, 40)]
    unbuffered = []
    for _epoch in range(3):
        for entry in entries:
            direct.looked_up(entry)
            expected = direct.take_expected(entry[0])
            if expected is not None and expected.fd is not None:
                os.close(expected.fd)
            elif bed.reads.answer(1, entry[0], LARGEST):
                unbuffered.append(entry[0])
            else:
                opened = direct.open(entry[0], expected, lambda _row: None)
                assert opened is not None
                opened.close_fd()
    assert unbuffered[-60:] == [*range(10, 40)] * 2
    direct.close()
