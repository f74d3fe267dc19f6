"""Directory entries packed for READDIR and READDIRPLUS.

The offset after an entry is its catalog row + 2: unique, stable, and enough for any server to go on
from there (by the row's name), so that an open directory has no state. 1 and 2 stand after `.` and
`..`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.attributes import (
    BLOCK_BYTES,
    DIRENT_TYPES,
    FILE_VALID_SECONDS,
    Attributes,
    mode_bits,
    split_seconds,
)
from fluidpy.fuse.kernel import DIRENT, DIRENTPLUS, padded_length
from fluidpy.storage.under_storage import Kind

OFFSET_SELF: Final = 1
OFFSET_PARENT: Final = 2
OFFSET_BASE: Final = 2
"""Added to a row to make the offset behind it; the root's row is 1 and it is nobody's child."""

_DIRECTORY: Final = int(Kind.DIRECTORY)
_LARGEST_BLOCK: Final = 1024 * 1024


class DirectoryBlock:
    """One answer being filled, never longer than asked for; the buffer is used again for each."""

    def __init__(self, attributes: Attributes) -> None:
        """`attributes` says who owns the entries."""
        self._attributes = attributes
        self._buffer = bytearray(_LARGEST_BLOCK)
        self._used = 0
        self._limit = 0

    def start(self, limit: int) -> None:
        """Begins a new block of at most `limit` bytes."""
        self._used = 0
        self._limit = min(limit, _LARGEST_BLOCK)

    @property
    def content(self) -> memoryview:
        """The bytes so far; valid until the next `start`."""
        return memoryview(self._buffer)[: self._used]

    def add_dot(self, name: bytes, ino: int, offset: int, *, plus: bool) -> bool:
        """Adds `.` or `..`; a node id of 0 tells the kernel to look at name and type only."""
        head = DIRENTPLUS if plus else DIRENT
        needed = padded_length(head.size + len(name))
        if self._used + needed > self._limit:
            return False
        tail = (ino, offset, len(name), DIRENT_TYPES[_DIRECTORY])
        values = (*([0] * 22), *tail) if plus else tail
        head.pack_into(self._buffer, self._used, *values)
        self._put_name(self._used + head.size, name, needed - head.size)
        self._used += needed
        return True

    def add_plain(self, entries: Iterable[EntryTuple]) -> None:
        """Adds names and types until the block is full."""
        pack_into, head, buffer, used = DIRENT.pack_into, DIRENT.size, self._buffer, self._used
        for row, _p, name, kind, _s, _t, _m, ino, _v, _mount, _live in entries:
            length = len(name)
            end = used + (head + length + 7 & ~7)
            if end > self._limit:
                break
            pack_into(buffer, used, ino, row + OFFSET_BASE, length, DIRENT_TYPES[kind])
            buffer[used + head : end] = name.ljust(end - used - head, b"\0")
            used = end
        self._used = used

    def add_plus(
        self,
        entries: Iterable[EntryTuple],
        name_seconds: float,
        directory_seconds: float,
        backed: Container[int] = (),
    ) -> None:
        """Adds entries with attributes until the block is full; time-outs in seconds.

        Rows that are `backed` are shown as passed through.
        """
        pack_into, head, buffer, used = (
            DIRENTPLUS.pack_into,
            DIRENTPLUS.size,
            self._buffer,
            self._used,
        )
        name_whole, name_part = split_seconds(name_seconds)
        folder_whole, folder_part = split_seconds(directory_seconds)
        uid, gid, limit = self._attributes.uid, self._attributes.gid, self._limit
        for row, _p, name, kind, size, mtime_ns, mode, ino, _v, _mount, _live in entries:
            length = len(name)
            end = used + (head + length + 7 & ~7)
            if end > limit:
                break
            folder = kind == _DIRECTORY
            seconds, part = divmod(mtime_ns, 1_000_000_000) if mtime_ns > 0 else (0, 0)
            pack_into(
                buffer,
                used,
                2 * row + (row in backed),  # the root is nobody's child
                0,
                name_whole,
                folder_whole if folder else FILE_VALID_SECONDS,
                name_part,
                folder_part if folder else 0,
                ino,
                size,
                (size + 511) >> 9,
                seconds,
                seconds,
                seconds,
                part,
                part,
                part,
                mode_bits(kind, mode),
                2 if folder else 1,
                uid,
                gid,
                0,
                BLOCK_BYTES,
                0,
                ino,
                row + OFFSET_BASE,
                length,
                DIRENT_TYPES[kind],
            )
            buffer[used + head : end] = name.ljust(end - used - head, b"\0")
            used = end
        self._used = used

    def _put_name(self, start: int, name: bytes, room: int) -> None:
        self._buffer[start : start + room] = name.ljust(room, b"\0")
