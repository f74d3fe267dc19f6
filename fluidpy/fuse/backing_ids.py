"""The holder's table of backing ids: the cache files that the kernel reads by itself.

A backing id is made for the connection, outlives the server that asked for it, and pins its file
until it is closed. One catalog row has one id at most. When it is closed its row is *retired*: an
inode of that row may still be open with the closed id, and an inode opened with two ids is EIO, so
no second one is made until the kernel has forgotten the inode.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

BACKING_MAP: Final = struct.Struct("=iIQ")
"""`fuse_backing_map` (include/uapi/linux/fuse.h): fd, flags, padding."""

BACKING_OPEN: Final = 0x4010E501
"""`FUSE_DEV_IOC_BACKING_OPEN`: `_IOW(229, 1, struct fuse_backing_map)`; gives the id."""

BACKING_CLOSE: Final = 0x4004E502
"""`FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)`, the id."""

Ioctl: TypeAlias = Callable[[int, int, bytearray], int]


class Backing(NamedTuple):
    """One id: of which catalog row, and the inode number of the cache file behind it."""

    row: int
    id: int
    ino: int


def _ioctl(fd: int, request: int, argument: bytearray) -> int:
    result: int = fcntl.ioctl(fd, request, argument, True)
    return result


class BackingIds:
    """Opens and closes the backing ids of one connection; single-threaded."""

    def __init__(self, device: int, ioctl: Ioctl = _ioctl) -> None:
        """`device` is the connection's fd; `ioctl` is fcntl's, unless a test says otherwise."""
        self._device = device
        self._ioctl = ioctl
        self._backings: dict[int, Backing] = {}
        self._retired: set[int] = set()

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self._backings)

    def open(self, row: int, fd: int) -> int:
        """The id of a row, made for the cache file `fd` unless the row has one; `fd` stays open.

        Raises OSError: ESTALE for a retired row, or what the kernel says (EPERM: no CAP_SYS_ADMIN;
        ELOOP: the file lies on a stacked file system; EOPNOTSUPP, ENOTTY: not negotiated).
        """
        known = self._backings.get(row)
        if known is not None:
            return known.id
        if row in self._retired:
            raise OSError(errno.ESTALE, "the kernel has not forgotten the row's closed file yet")
        # A mutable buffer: with any other argument fcntl does not give the ioctl's result back.
        number = self._ioctl(self._device, BACKING_OPEN, bytearray(BACKING_MAP.pack(fd, 0, 0)))
        self._backings[row] = Backing(row, number, os.fstat(fd).st_ino)
        return number

    def close(self, rows: Iterable[int]) -> None:
        """Closes the ids of these rows and retires them; rows without one are passed over."""
        for row in rows:
            backing = self._backings.pop(row, None)
            if backing is not None:
                self._retired.add(row)
                with suppress(OSError):  # ENOENT: the kernel has dropped it with the connection
                    self._ioctl(
                        self._device, BACKING_CLOSE, bytearray(struct.pack("=I", backing.id))
                    )

    def forgotten(self, rows: Iterable[int]) -> None:
        """The kernel has no inode of these rows any more: they may get an id again."""
        self._retired.difference_update(rows)

    def state(self) -> tuple[list[Backing], list[int]]:
        """What the next server has to know: all ids, and all retired rows."""
        return list(self._backings.values()), sorted(self._retired)
