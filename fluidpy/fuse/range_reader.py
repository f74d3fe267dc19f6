"""Answers READ from a cache file: at once when its pages are in memory, else when the kernel has no
other request for us just now, and on a slow disk from a thread.

A fast disk answers sooner than one thread can hand over to another and back, which costs 150 µs of
processor time here. While one read waits for the disk no request is looked at; so those that came
together are put to the disk together, and a slow disk (`disk_pace`) is left to threads.

Bytes are read into one buffer and written out, not spliced: 1 MiB and a header need a pipe larger
than `pipe-max-size` allows, and it won nothing beyond the spread (Linux 6.18, 2 cores, sequential:
1.1-1.8 against 1.0-1.5 GiB/s). Moving the pages of small files that way cost more than the copies,
once the buffer began at a page: 100 KB from the disk took 570 against 490 µs, and 410 when they
were read past the kernel's pages, with half the processor time.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from fluidpy.aligned_memory import in_one_piece, page_aligned
from fluidpy.fuse.device import Device
from fluidpy.fuse.disk_pace import PATIENCE_SECONDS, DiskPace
from fluidpy.fuse.event_loop import EventLoop

THREADS: Final = 8
"""Reads of cache files that may wait for a disk at once."""

Done: TypeAlias = Callable[[OSError | None], None]
"""Called in the loop's thread when the fd is no longer needed: with None after the answer, or with
the error, and then nothing was answered."""


class Piece(NamedTuple):
    """`length` bytes of `fd` from `offset`."""

    fd: int
    offset: int
    length: int


class _Job(NamedTuple):
    unique: int
    pieces: Sequence[Piece]
    done: Done


_NOT_NOW: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})
"""Pages not in memory; or a file system that cannot tell (tmpfs of older kernels, overlayfs)."""


class RangeReader:
    """Sends ranges of files to the kernel, whole or not at all."""

    def __init__(self, loop: EventLoop, device: Device, largest: int) -> None:
        """`largest` is the most bytes that one READ asks for."""
        self._loop = loop
        self._device = device
        self._largest = largest
        self.view = in_one_piece(largest)
        """Where answers are put together, one at a time: for the loop's thread alone."""
        self._last_byte = memoryview(bytearray(1))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._from_disk: list[_Job] = []
        self._busy = 0
        self.pace = DiskPace()

    @property
    def busy(self) -> bool:
        """Whether something is still to be read or to be answered."""
        return self._busy > 0

    def send(self, unique: int, pieces: Sequence[Piece], done: Done) -> None:
        """Answers `unique` with the pieces, one after the other, now or soon."""
        if len(pieces) == 1 and self._send_now(unique, pieces[0], done):
            return
        self._busy += 1
        if not self._from_disk:
            self._loop.call_soon(self._read_from_disk)
        self._from_disk.append(_Job(unique, pieces, done))

    def answer_whole(self, unique: int, fd: int, length: int) -> bool:
        """Answers `unique` with a file of at most the largest READ that is being fetched.

        False, and nothing answered, when it should not be waited for, or cannot be read: `send` it.
        """
        whole = (Piece(fd, 0, length),)
        if self.pace.slow or self._device.has_request():
            return self._in_memory(fd, length) and not self._answer(unique, whole, self.view)
        begin = self._loop.clock()
        failure = self._answer(unique, whole, self.view)
        self.pace.took(self._loop.clock() - begin)
        return failure is None

    def _in_memory(self, fd: int, length: int) -> bool:
        try:
            return os.preadv(fd, (self._last_byte,), length - 1, os.RWF_NOWAIT) == 1
        except OSError:  # not now, or not readable: `send` sees to it
            return False

    def _send_now(self, unique: int, piece: Piece, done: Done) -> bool:
        fd, offset, length = piece
        view = self.view[:length]
        try:
            if os.preadv(fd, (view,), offset, os.RWF_NOWAIT) != length:
                return False
        except OSError as error:
            if error.errno in _NOT_NOW:
                return False
            done(error)
            return True
        self._device.reply(unique, view)
        done(None)
        return True

    def _read_from_disk(self) -> None:
        jobs, self._from_disk = self._from_disk, []
        if len(jobs) > 1 and not self.pace.slow:
            _announce(jobs)
        clock, pace = self._loop.clock, self.pace
        limit = clock() + PATIENCE_SECONDS
        for job in jobs:
            begin = clock()
            if pace.slow or begin > limit:
                self._hand_over(job)
                continue
            failure = self._answer(job.unique, job.pieces, self.view)
            pace.took(clock() - begin)
            self._finish(job.done, failure)

    def _hand_over(self, job: _Job) -> None:
        if self._busy > len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, name="cache-read", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        view = page_aligned(self._largest)
        while (job := self._jobs.get()) is not None:
            begin = self._loop.clock()
            failure = self._answer(job.unique, job.pieces, view)
            seconds = self._loop.clock() - begin
            self._loop.call_from_thread(lambda j=job, s=seconds, f=failure: self._finished(j, s, f))  # type: ignore[misc]  # defaults bind the loop's values

    def _answer(self, unique: int, pieces: Sequence[Piece], view: memoryview) -> OSError | None:
        filled = 0
        for fd, offset, length in pieces:
            failure = _read_whole(fd, view[filled : filled + length], offset)
            if failure is not None:
                return failure
            filled += length
        self._device.reply(unique, view[:filled])
        return None

    def _finished(self, job: _Job, seconds: float, failure: OSError | None) -> None:
        self.pace.took(seconds)
        self._finish(job.done, failure)

    def _finish(self, done: Done, failure: OSError | None) -> None:
        self._busy -= 1
        done(failure)

    def close(self) -> None:
        """Ends the threads after the reads at hand."""
        for _ in self._threads:
            self._jobs.put(None)


def _announce(jobs: Sequence[_Job]) -> None:
    """Has the disk begin with all of them."""
    for job in jobs:
        for fd, offset, length in job.pieces:
            os.posix_fadvise(fd, offset, length, os.POSIX_FADV_WILLNEED)


def _read_whole(fd: int, view: memoryview, offset: int) -> OSError | None:
    filled = 0
    try:
        while filled < len(view):
            count = os.preadv(fd, (view[filled:],), offset + filled)
            if count == 0:
                return OSError(errno.ENODATA, "the cache file is shorter than the object")
            filled += count
    except OSError as error:
        return error
    return None
