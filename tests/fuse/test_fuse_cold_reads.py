"""Bytes that are not in memory yet: who waits for the disk, and what is fetched before it is asked
for.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.device import Device
from fluidpy.fuse.disk_pace import PATIENCE_SECONDS, DiskPace
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.expected_reads import MOST_EXPECTED, ExpectedReads
from fluidpy.fuse.kernel import OUT_HEADER
from fluidpy.fuse.range_reader import Piece, RangeReader
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES

CONTENT = os.urandom(100_000)


class SocketDevice:
    """A device whose answers come out of a socket, one a message; refuses some."""

    def __init__(self) -> None:
        self._inside, self.outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inside.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        self.outside.settimeout(10)
        self.others_wait = False

    def has_request(self) -> bool:
        return self.others_wait

    def reply(self, unique: int, payload: memoryview) -> None:
        self._inside.sendall(OUT_HEADER.pack(16 + len(payload), 0, unique) + bytes(payload))

    def answer(self) -> tuple[int, bytes]:
        header = self.outside.recv(16, socket.MSG_WAITALL)
        length, _error, unique = OUT_HEADER.unpack(header)
        return unique, self.outside.recv(length - 16, socket.MSG_WAITALL)

    def close(self) -> None:
        self._inside.close()
        self.outside.close()


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.fixture
def device() -> Iterator[SocketDevice]:
    device = SocketDevice()
    yield device
    device.close()


@pytest.fixture
def reader(loop: EventLoop, device: SocketDevice) -> Iterator[RangeReader]:
    reader = RangeReader(loop, cast("Device", device), 1024 * 1024)
    yield reader
    reader.close()


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[int]:
    """A file of which nothing is in memory."""
    path = tmp_path / "cold"
    path.write_bytes(CONTENT)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    yield fd
    os.close(fd)


def make_cold(fd: int) -> None:
    """Has the kernel forget a file; skips the test where it does not, or does not tell."""
    try:
        os.preadv(fd, [bytearray(1)], len(CONTENT) - 1, os.RWF_NOWAIT)
    except BlockingIOError:  # and the kernel fetches it
        pass
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("the file system here, such as overlayfs, does not say what is in memory")
    os.pread(fd, len(CONTENT), 0)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if any(pages_in_memory(fd)):
        pytest.skip("the kernel keeps the file in memory")


def pages_in_memory(fd: int) -> list[int]:
    """1 for each page of the file that the kernel has, else 0; asking has it fetch none."""
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(fd, 0, access=mmap.ACCESS_COPY) as mapped:
        told = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        failed = libc.mincore(ctypes.byref(first), ctypes.c_size_t(len(mapped)), told)
        del first
    assert not failed, os.strerror(ctypes.get_errno())
    return [page & 1 for page in told]


def wait_for(loop: EventLoop, results: list[OSError | None], count: int) -> None:
    def look() -> None:
        if len(results) >= count:
            loop.stop()
        else:
            loop.call_later(0.001, look)

    loop.call_later(0.001, look)
    loop.run()


@pytest.mark.parametrize("slow", [False, True])
def test_cold_bytes_are_the_right_ones_whoever_waits(
    loop: EventLoop,
    reader: RangeReader,
    device: SocketDevice,
    cold: int,
    slow: bool,
) -> None:
    if slow:
        reader.pace.took(100.0)
    results: list[OSError | None] = []
    reader.send(1, [Piece(cold, 0, 50_000)], results.append)
    reader.send(2, [Piece(cold, 50_001, 49_999)], results.append)
    wait_for(loop, results, 2)
    answers = dict(device.answer() for _ in range(2))
    assert answers == {1: CONTENT[:50_000], 2: CONTENT[50_001:]}
    assert results == [None, None]
    assert not reader.busy


def test_a_file_that_is_too_short_answers_nothing_and_spoils_no_other(
    loop: EventLoop, reader: RangeReader, device: SocketDevice, cold: int
) -> None:
    results: list[OSError | None] = []
    reader.send(1, [Piece(cold, 0, 100_001)], results.append)
    wait_for(loop, results, 1)
    assert results[0] is not None
    assert results[0].errno == errno.ENODATA
    reader.send(2, [Piece(cold, 0, 100_000)], results.append)
    wait_for(loop, results, 2)
    assert device.answer() == (2, CONTENT)


def test_a_file_that_is_being_fetched_is_answered_at_once(
    reader: RangeReader, device: SocketDevice, cold: int
) -> None:
    assert reader.answer_whole(1, cold, 100_000)
    assert device.answer() == (1, CONTENT)
    assert not reader.busy


@pytest.mark.parametrize("slow", [False, True])
def test_requests_that_wait_are_not_held_up_by_a_file_on_the_disk(
    loop: EventLoop, reader: RangeReader, device: SocketDevice, cold: int, slow: bool
) -> None:
    if slow:
        reader.pace.took(100.0)
    else:
        device.others_wait = True
    for unique in range(20):
        make_cold(cold)
        if not reader.answer_whole(unique, cold, 100_000):
            break
        # The kernel had fetched it before it told: a busy machine lets a disk be that quick.
        assert device.answer() == (unique, CONTENT)
    else:
        pytest.fail("it waited for the disk each time")
    os.pread(cold, 100_000, 0)
    assert reader.answer_whole(100, cold, 100_000)
    assert device.answer() == (100, CONTENT)


def test_a_file_that_is_too_short_is_not_answered_at_once(
    reader: RangeReader, device: SocketDevice, cold: int
) -> None:
    assert not reader.answer_whole(1, cold, 100_001)
    assert reader.answer_whole(2, cold, 100_000)
    assert device.answer() == (2, CONTENT)


@given(st.lists(st.floats(0, PATIENCE_SECONDS)))
def test_a_disk_that_is_never_late_is_always_waited_for(times: list[float]) -> None:
    pace = DiskPace()
    for seconds in times:
        pace.took(seconds)
        assert not pace.slow


def test_a_slow_disk_is_left_to_threads_until_it_is_quick_again() -> None:
    pace = DiskPace()
    for _ in range(3):
        pace.took(0.015)
    assert pace.slow
    for _ in range(10):
        pace.took(0.0001)
    assert not pace.slow


class Opened:
    """Opens a file of memory for each row, named after it."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, entry: EntryTuple) -> int:
        self.rows.append(entry[0])
        fd = os.memfd_create(f"row-{entry[0]}-expected")
        os.ftruncate(fd, entry[4])
        return fd

    def left_open(self) -> set[int]:
        """Rows whose fds are not closed."""
        links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return {row for row in self.rows if any(f"row-{row}-expected" in link for link in links)}


def entry(row: int, size: int = 1000) -> EntryTuple:
    return (row, 1, b"n", 1, size, 0, None, row, b"v", 0, True)


def read_after_look_up(expected: ExpectedReads, rows: range) -> None:
    for row in rows:
        expected.looked_up(entry(row))
        found = expected.take(row)
        assert found is not None
        if found.fd is not None:
            os.close(found.fd)


def test_files_are_fetched_once_look_ups_proved_to_be_for_reads() -> None:
    opened = Opened()
    expected = ExpectedReads(opened)
    read_after_look_up(expected, range(20))
    assert 0 not in opened.rows
    assert 19 in opened.rows
    expected.looked_up(entry(50, LARGE_FILE_BYTES))
    assert 50 not in opened.rows
    expected.close()


def test_who_looks_at_names_only_soon_has_nothing_fetched_any_more() -> None:
    opened = Opened()
    expected = ExpectedReads(opened)
    read_after_look_up(expected, range(100))
    for row in range(1000, 1000 + 3 * MOST_EXPECTED):
        expected.looked_up(entry(row))
    assert max(opened.rows) < 1000 + MOST_EXPECTED + 10
    expected.close()
    assert not opened.left_open()


def test_a_file_that_is_not_read_is_let_go_of() -> None:
    opened = Opened()
    expected = ExpectedReads(opened)
    read_after_look_up(expected, range(100))
    expected.looked_up(entry(500))
    expected.sweep()
    assert opened.left_open() == {500}
    expected.sweep()
    assert not opened.left_open()
    assert expected.take(500) is None
