"""Answers READ from a cache file: at once when its pages are in memory, else from a thread.

Bytes are read into one buffer and written out, not spliced: splice cannot be told not to wait for a
disk, 1 MiB and a header need a pipe larger than `pipe-max-size` allows, and it won nothing beyond
the spread (Linux 6.18, 2 cores, sequential: 1.1-1.8 against 1.0-1.5 GiB/s).
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from fluidpy.fuse.device import Device
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


_NOT_NOW: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})
"""Pages not in memory; or a file system that cannot tell (tmpfs of older kernels, overlayfs)."""


class RangeReader:
    """Sends ranges of files to the kernel, whole or not at all."""

    def __init__(self, loop: EventLoop, device: Device, largest: int) -> None:
        """`largest` is the most bytes that one READ asks for."""
        self._loop = loop
        self._device = device
        self._largest = largest
        self._view = memoryview(bytearray(largest))
        self._jobs: queue.SimpleQueue[tuple[int, Sequence[Piece], Done] | None] = (
            queue.SimpleQueue()
        )
        self._threads: list[threading.Thread] = []
        self._busy = 0

    @property
    def busy(self) -> bool:
        """Whether a thread has something to read or to answer."""
        return self._busy > 0

    def send(self, unique: int, pieces: Sequence[Piece], done: Done) -> None:
        """Answers `unique` with the pieces, one after the other, now or soon."""
        if len(pieces) == 1 and self._send_now(unique, pieces[0], done):
            return
        self._busy += 1
        if self._busy > len(self._threads) < THREADS:
            self._start_thread()
        self._jobs.put((unique, pieces, done))

    def _send_now(self, unique: int, piece: Piece, done: Done) -> bool:
        view = self._view[: piece.length]
        try:
            if os.preadv(piece.fd, (view,), piece.offset, os.RWF_NOWAIT) != piece.length:
                return False
        except OSError as error:
            if error.errno in _NOT_NOW:
                return False
            done(error)
            return True
        self._device.reply(unique, view)
        done(None)
        return True

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="cache-read", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        view = memoryview(bytearray(self._largest))
        while (job := self._jobs.get()) is not None:
            unique, pieces, done = job
            filled, failure = 0, None
            for fd, offset, length in pieces:
                failure = self._read_whole(fd, view[filled : filled + length], offset)
                if failure is not None:
                    break
                filled += length
            if failure is None:
                self._device.reply(unique, view[:filled])
            self._loop.call_from_thread(lambda d=done, f=failure: self._finish(d, f))  # type: ignore[misc]  # defaults bind the loop's values

    def _read_whole(self, fd: int, view: memoryview, offset: int) -> OSError | None:
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

    def _finish(self, done: Done, failure: OSError | None) -> None:
        self._busy -= 1
        done(failure)

    def close(self) -> None:
        """Ends the threads after the reads at hand."""
        for _ in self._threads:
            self._jobs.put(None)
