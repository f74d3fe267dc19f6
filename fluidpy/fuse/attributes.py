"""A catalog entry as the kernel sees it: node id, attributes, time-outs. Pure packing.

A node id is `2 × row + mode`, with the mode that the file is read in (0: plain, 1: passed through),
and 1 for the root. A row is one version of one path and is never reused; `st_ino` is the same for
all versions.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.kernel import ATTR_OUT, ENTRY_OUT, ROOT_ID
from fluidpy.storage.under_storage import Kind

ROOT_ROW: Final = 1
"""Catalog row of the root directory."""

FILE_VALID_SECONDS: Final = 3600
"""Attributes of a file version never change; an hour bounds what an unforeseen error could cost."""

NEGATIVE_VALID_SECONDS: Final = 1.0
"""How long the kernel may remember that a name is not there."""

BLOCK_BYTES: Final = 4096
"""`st_blksize`: the page, as local file systems say; larger ones swell every program's buffers."""

_TYPE_BITS: Final = {
    int(Kind.FILE): stat.S_IFREG,
    int(Kind.DIRECTORY): stat.S_IFDIR,
    int(Kind.SYMLINK): stat.S_IFLNK,
}

DIRENT_TYPES: Final = {kind: bits >> 12 for kind, bits in _TYPE_BITS.items()}
"""`d_type` by kind (`DT_REG`, `DT_DIR`, `DT_LNK`)."""


def node_of_row(row: int) -> int:
    """The node id of a catalog row, read in plain mode."""
    return ROOT_ID if row == ROOT_ROW else 2 * row


def row_of_node(node: int) -> int:
    """The catalog row of a node id, in whatever mode."""
    return ROOT_ROW if node == ROOT_ID else node >> 1


def mode_bits(kind: int, mode: int | None) -> int:
    """`st_mode`: the source's permissions, or 0444 and 0555, never with a write or a set-id bit."""
    if kind == Kind.SYMLINK:
        return stat.S_IFLNK | 0o777
    if mode is None:
        mode = 0o444 if kind == Kind.FILE else 0o555
    return _TYPE_BITS[kind] | (mode & 0o555)


def split_seconds(seconds: float) -> tuple[int, int]:
    """A time-out as whole seconds and nanoseconds; at most an hour, at least nothing."""
    bounded = min(max(seconds, 0.0), FILE_VALID_SECONDS)
    whole = int(bounded)
    return whole, int((bounded - whole) * 1e9)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Packs entries for one mount; `uid` and `gid` own everything in it."""

    uid: int
    gid: int

    def pack_attr(self, entry: EntryTuple, valid_seconds: float) -> bytes:
        """`fuse_attr_out`, valid as long as given."""
        whole, nanoseconds = split_seconds(valid_seconds)
        return ATTR_OUT.pack(whole, nanoseconds, 0, *self._attr(entry))

    def pack_entry(
        self,
        entry: EntryTuple,
        name_seconds: float,
        attr_seconds: float,
        node: int | None = None,
    ) -> bytes:
        """`fuse_entry_out`: what a name stands for and how long name and attributes hold.

        `node` is the node id; without it, that of the row read in plain mode.
        """
        name_whole, name_nanoseconds = split_seconds(name_seconds)
        attr_whole, attr_nanoseconds = split_seconds(attr_seconds)
        return ENTRY_OUT.pack(
            node_of_row(entry[0]) if node is None else node,
            0,
            name_whole,
            attr_whole,
            name_nanoseconds,
            attr_nanoseconds,
            *self._attr(entry),
        )

    def _attr(self, entry: EntryTuple) -> tuple[int, ...]:
        _row, _parent, _name, kind, size, mtime_ns, mode, ino, _version, _mount, _live = entry
        seconds, nanoseconds = divmod(max(mtime_ns, 0), 1_000_000_000)
        return (
            ino,
            size,
            (size + 511) // 512,
            seconds,
            seconds,
            seconds,
            nanoseconds,
            nanoseconds,
            nanoseconds,
            mode_bits(kind, mode),
            2 if kind == Kind.DIRECTORY else 1,
            self.uid,
            self.gid,
            0,
            BLOCK_BYTES,
            0,
        )


def pack_negative(valid_seconds: float) -> bytes:
    """`fuse_entry_out` of a name that is not there, to be remembered as long as given."""
    whole, nanoseconds = split_seconds(valid_seconds)
    return ENTRY_OUT.pack(0, 0, whole, 0, nanoseconds, *([0] * 17))
