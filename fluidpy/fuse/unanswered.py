"""For kernels that cannot send a request again (before Linux 6.9): which requests are unanswered.

The server notes them in memory that the holder owns; the next server answers with EIO what the one
before has left. Without that, whoever waits would wait for ever, and could not even be killed.

The table is one unsigned 64-bit number a slot, 0 where it is free; the first slot is the `unique`
of the request that was read last.
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
import struct
from collections.abc import Callable, Mapping
from typing import Final

from fluidpy.fuse.device import Device
from fluidpy.fuse.kernel import IN_HEADER, Opcode, pack_error

SWITCH: Final = "FLUIDPY_FUSE_RESEND"
"""Environment: `0` does without the kernel's help, as on an older one. For experts and tests."""

TABLE_BYTES: Final = 1024 * 1024
"""131,071 requests: eight times as many as the kernel lets wait in the background."""

RESEND_SINCE: Final = (6, 9)
"""The Linux that brought FUSE_NOTIFY_RESEND."""

_UNSEEN: Final = 1024
"""Requests after the last noted one that get EIO, too: it may have been killed before it noted
that. An answer to a request that nobody has read is refused by the kernel (ENOENT)."""

_STEP: Final = 2
"""Between the `unique`s of two requests (`FUSE_REQ_ID_STEP`)."""

_SLOT: Final = struct.Struct("=Q")
_WITHOUT_ANSWER: Final = frozenset(
    {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY, Opcode.INTERRUPT}
)


def kernel_resends(environ: Mapping[str, str], release: str | None = None) -> bool:
    """Whether requests can be sent again: by the kernel's version, unless the switch says no."""
    if environ.get(SWITCH) == "0":
        return False
    numbers = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= RESEND_SINCE


class UnansweredTable:
    """The table, mapped; one server at a time writes to it."""

    def __init__(self, fd: int) -> None:
        """Maps the memfd of `TABLE_BYTES`; it stays the caller's."""
        self._table = mmap.mmap(fd, TABLE_BYTES)
        self._slots: dict[int, int] = {}
        self._free = list(range(TABLE_BYTES - _SLOT.size, 0, -_SLOT.size))

    def note(self, unique: int) -> None:
        """A request was read, and is to be answered."""
        if self._free:
            slot = self._slots[unique] = self._free.pop()
            _SLOT.pack_into(self._table, slot, unique)
        self.passed(unique)

    def passed(self, unique: int) -> None:
        """A request was read that gets no answer."""
        _SLOT.pack_into(self._table, 0, unique)

    def answered(self, unique: int) -> None:
        """It has its answer. Safe from any thread."""
        slot = self._slots.pop(unique, None)
        if slot is not None:
            _SLOT.pack_into(self._table, slot, 0)
            self._free.append(slot)

    def take_left(self) -> list[int]:
        """What the server before read, or may have read, and did not answer; forgets it."""
        (last,) = _SLOT.unpack_from(self._table, 0)
        content = self._table[_SLOT.size :].rstrip(b"\0")
        content = content.ljust(-(-len(content) // _SLOT.size) * _SLOT.size, b"\0")
        left = [unique for (unique,) in _SLOT.iter_unpack(content) if unique]
        self._table[_SLOT.size : _SLOT.size + len(content)] = bytes(len(content))
        if last:
            first = last & ~1
            left += range(first + _STEP, first + _STEP * (_UNSEEN + 1), _STEP)
        return left

    def close(self) -> None:
        """Unmaps it."""
        self._table.close()


class NotingDevice(Device):
    """A device that keeps the table of what is unanswered."""

    def __init__(
        self,
        fd: int,
        on_fault: Callable[[OSError], None],
        table: UnansweredTable,
        keep: tuple[int, ...] = (),
    ) -> None:
        """As `Device`; answers with EIO what an earlier server left."""
        super().__init__(fd, on_fault, keep)
        self._table = table

    def fail_left(self) -> int:
        """Ends what an earlier server left, with EIO; says how many those were."""
        ended = 0
        for unique in self._table.take_left():
            try:
                os.write(self.fd, pack_error(unique, errno.EIO))
            except OSError:  # ENOENT: it was answered, or nobody has read it yet
                continue
            ended += 1
        return ended

    def received(self, request: memoryview) -> None:
        """Notes a request that was read."""
        _length, opcode, unique, *_ = IN_HEADER.unpack_from(request)
        if opcode in _WITHOUT_ANSWER:
            self._table.passed(unique)
        else:
            self._table.note(unique)

    def reply(self, unique: int, payload: bytes | memoryview = b"") -> None:
        """Answers a request."""
        super().reply(unique, payload)
        self._table.answered(unique)

    def reply_error(self, unique: int, code: int) -> None:
        """Answers a request with an errno."""
        super().reply_error(unique, code)
        self._table.answered(unique)
