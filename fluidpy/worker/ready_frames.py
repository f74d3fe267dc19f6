"""Frames of a batch whose objects are cached: read into one buffer, group by group, to be sent.

Copying a small file costs less than sending it with a call of its own, and the receiver wakes once
a group. Runs in the threads that send, so that the event loop does not wait for the disk.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fluidpy.cache.whole_reads import WholeFile, describe, read_whole
from fluidpy.cluster import peer_protocol as protocol
from fluidpy.cluster.peer_protocol import FRAME, PeerRequest
from fluidpy.errors import CacheError

if TYPE_CHECKING:
    from fluidpy.cache.file_table import FileTable

GROUP_BYTES: Final = 1024 * 1024
"""Size of the buffer: about what a processor's own cache holds."""

COPIED_BYTES: Final = 256 * 1024
"""Longer objects go from their file to the socket without a copy."""

ALONE_SECONDS: Final = 0.002
"""How long a thread waits until no other one fills its buffer: threads that open and read small
files at once hand the interpreter's lock to and fro, ten system calls an object. A group of files
whose pages are in memory takes 0.5 ms; for a slower disk, threads do not wait in turn."""

_FILLING: Final = threading.Lock()

_DESCRIBED: Final = 64
"""Objects that the index is asked for at once."""

_KEPT: Final = 2
"""Buffers kept for later batches."""


class Buffers:
    """Buffers that are used again; for one event loop."""

    def __init__(self) -> None:
        """Has none yet."""
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """One, new or used."""
        return self._free.pop() if self._free else bytearray(GROUP_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """It is not used any more."""
        if len(self._free) < _KEPT:
            self._free.append(buffer)


class ReadyFrames:
    """Frames of the objects that may be sent at once; `at` is the first one not sent yet."""

    def __init__(
        self,
        table: FileTable,
        requests: Sequence[PeerRequest],
        keys: Sequence[bytes],
        buffer: bytearray,
    ) -> None:
        """`keys` are those of the requests, in `table`."""
        self._table = table
        self._requests = requests
        self._keys = keys
        self._buffer = memoryview(buffer)
        self._files: Sequence[WholeFile | None] = ()
        self._described_at = 0
        self.at = 0
        self.bytes_read = 0
        """Bytes of objects in all frames so far."""

    def next_group(self) -> memoryview | None:
        """Whole frames from `at` on, valid until the next call; None when the object there has to
        be had another way, or there are no more.
        """
        alone = _FILLING.acquire(timeout=ALONE_SECONDS)
        try:
            end = self._fill()
        finally:
            if alone:
                _FILLING.release()
        return self._buffer[:end] if end else None

    def _fill(self) -> int:
        """Fills the buffer; how many bytes are in it."""
        end = 0
        while self.at < len(self._requests):
            length = self._next_frame(self._requests[self.at], end)
            if not length:
                break
            end += length
            self.at += 1
        return end

    def _next_frame(self, request: PeerRequest, start: int) -> int:
        """Puts a frame to `start` in the buffer; its length, 0 when it cannot be there now."""
        size = request.size
        if not size:
            if start + FRAME.size > len(self._buffer):
                return 0
            FRAME.pack_into(self._buffer, start, protocol.OK, 0, 0, 0)
            return FRAME.size
        if size > COPIED_BYTES:
            return 0
        file = self._file()
        if file is None:
            return 0
        blocks = len(file.sums)
        begin = start + FRAME.size + 4 * blocks
        end = begin + size
        if end > len(self._buffer) or not read_whole(file, self._buffer[begin:end]):
            return 0
        FRAME.pack_into(self._buffer, start, protocol.OK, 0, blocks, size)
        struct.pack_into(f"!{blocks}I", self._buffer, start + FRAME.size, *file.sums)
        self.bytes_read += size
        return end - start

    def _file(self) -> WholeFile | None:
        """The file of the object at `at`; those after it are looked up with it."""
        number = self.at - self._described_at
        if not 0 <= number < len(self._files):
            asked = range(self.at, min(self.at + _DESCRIBED, len(self._requests)))
            wanted = [(self._keys[each], self._requests[each].size) for each in asked]
            try:
                self._files = describe(self._table, wanted)
            except CacheError:  # the long way says what fails, or brings it, object by object
                self._files = [None] * len(wanted)
            self._described_at, number = self.at, 0
        return self._files[number]
