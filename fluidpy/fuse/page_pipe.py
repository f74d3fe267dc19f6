"""Answers READ with the very pages of a cache file: through a pipe, moved and not copied.

The kernel takes pages out of the cache file's mapping and puts them into that of the mount's file,
where nothing forbids it (a page that is dirty, mapped, shared or part of a larger folio is copied).
So whoever needs them no more at the cache file saves two copies and the dropping of the pages.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

from fluidpy.fuse.device import Device
from fluidpy.fuse.kernel import OUT_HEADER

PIPE_BYTES: Final = 1024 * 1024
"""The most that a pipe of anybody may hold (`fs.pipe-max-size`)."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NOT_PAGES: Final = 3 * _PAGE
"""Room of the pipe for the header and for pages of which a part is wanted only."""


class PagePipe:
    """One pipe between cache files and the device; single-threaded."""

    def __init__(self, device: Device) -> None:
        """The device stays the caller's."""
        self._device = device
        self._read = self._write = -1
        self._make()

    def _make(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # EPERM: this user's pipes hold too much by now
            size = fcntl.fcntl(self._write, fcntl.F_GETPIPE_SZ)
        self.most = size - _NOT_PAGES
        """The most bytes that one answer may have; with less than 1 none can be given."""

    def answer(self, unique: int, fd: int, offset: int, length: int) -> OSError | None:
        """Answers with `length` bytes (at most `most`) of a file; waits for its disk.

        An error says that nothing was answered: of the disk, or ENODATA for a file that is shorter.
        """
        try:
            os.write(self._write, OUT_HEADER.pack(OUT_HEADER.size + length, 0, unique))
            filled = 0
            while filled < length:
                count = os.splice(fd, self._write, length - filled, offset_src=offset + filled)
                if count == 0:
                    raise OSError(errno.ENODATA, "the cache file is shorter than the object")
                filled += count
        except OSError as error:
            self._empty()
            return error
        if not self._device.reply_from_pipe(unique, self._read, length):
            self._empty()
        return None

    def _empty(self) -> None:
        self.close()
        self._make()

    def close(self) -> None:
        """Closes the pipe."""
        os.close(self._read)
        os.close(self._write)
