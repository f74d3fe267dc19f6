"""Complete cache files opened without the worker, and pages that are in memory twice.

Where the kernel keeps the mount's own pages, those of the cache file below are of no use once they
were read. They are dropped late and together: who reads a file again at once (a header, then the
whole) and who reads it by another way meanwhile find them still.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.expected_reads import Expected, ExpectedReads
from fluidpy.fuse.kept_files import KeptFiles
from fluidpy.fuse.open_files import HeldFd, OpenFile
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
from fluidpy.namespace.catalog import Entry

DROP_BYTES: Final = 32 * 1024 * 1024
"""How much of a large file is read before its cache file's pages up to there are dropped."""

DROP_FILES: Final = 64
"""Small files read to their end that are kept: with each one more the oldest is closed and its
pages are dropped, while the reader takes what it has got."""


class OpensCacheFiles(Protocol):
    """What opens complete cache files."""

    def open(self, entry: EntryTuple) -> int | None:
        """An fd of the whole file, the caller's; None when there is none."""


class DirectFiles:
    """Opens small complete files, and drops pages that were read."""

    def __init__(
        self,
        view: OpensCacheFiles | None,
        *,
        on_used: Callable[[int], None],
        close: Callable[[OpenFile], None],
        kept: KeptFiles | None = None,
    ) -> None:
        """`on_used` hears of rows that were opened; `close` lets go of a file if nobody reads;
        `kept` says which files are read past the kernel's pages.
        """
        self._kept = kept
        self._view = view
        self._on_used = on_used
        self._close = close
        self._read_whole: deque[OpenFile] = deque()
        self._read_at_once: deque[tuple[int, int]] = deque()
        self.expected = ExpectedReads(self._open_complete)
        self.kernel_keeps_pages = True
        """Whether pages of cache files are of no use once they were read."""

    def looked_up(self, entry: EntryTuple) -> None:
        """The kernel asked for the name of a file, and may read it next."""
        if self._kept is None or not self._kept.needs_no_pages(entry[0]):
            self.expected.looked_up(entry)

    def take_expected(self, row: int) -> Expected | None:
        """What is known of a file that is read now if its name was looked up; an fd is the
        caller's.
        """
        return self.expected.take(row)

    def open(
        self, row: int, expected: Expected | None, find: Callable[[int], Entry | None]
    ) -> OpenFile | None:
        """The file of a row as it is held from now on, with its cache file if it is a small one
        that is complete; large ones are the worker's to open.

        `find` asks the catalog; None for a row that it does not have.
        """
        if expected is None:
            entry: EntryTuple | None = find(row)
            if entry is None:
                return None
            fd = None
        else:
            entry, fd = expected.entry, expected.fd
        if fd is None:
            fd = self._open_complete(entry)
        file = OpenFile(row, entry[4])
        if fd is not None:
            file.held, file.complete = HeldFd(fd), True
            self._on_used(row)
        return file

    def _open_complete(self, entry: EntryTuple) -> int | None:
        if self._view is None or entry[4] >= LARGE_FILE_BYTES:
            return None
        return self._view.open(entry)

    def was_read(self, file: OpenFile, end: int, length: int) -> None:
        """`length` bytes up to `end` were given to the kernel."""
        if not self.kernel_keeps_pages:
            return
        file.unneeded += length
        if file.size >= LARGE_FILE_BYTES:
            if file.unneeded >= DROP_BYTES and file.held is not None:
                file.held.drop_pages(end)
                file.unneeded = 0
        elif end == file.size and file.handle is None:
            self._read_whole.append(file)
            if len(self._read_whole) > DROP_FILES:
                self._close(self._read_whole.popleft())

    def was_read_at_once(self, row: int, fd: int, size: int) -> None:
        """All of a small file was given to the kernel in one answer; takes over the fd.

        Nobody reads on in it, and so it needs no `OpenFile`.
        """
        self._on_used(row)
        self._read_at_once.append((fd, size))
        if len(self._read_at_once) > DROP_FILES:
            _let_go(*self._read_at_once.popleft())

    def close_read_whole(self) -> None:
        """Closes the small files that were read to their end."""
        while self._read_whole:
            self._close(self._read_whole.popleft())
        while self._read_at_once:
            _let_go(*self._read_at_once.popleft())

    def sweep(self) -> None:
        """Closes what was read, and what was not read for a while, after a look-up."""
        self.close_read_whole()
        self.expected.sweep()

    def close(self) -> None:
        """Closes what is held for reads to come, and what was read at once."""
        self.expected.close()
        while self._read_at_once:
            _let_go(*self._read_at_once.popleft())


def _let_go(fd: int, size: int) -> None:
    """Closes a cache file whose pages are of no use any more."""
    os.posix_fadvise(fd, 0, size, os.POSIX_FADV_DONTNEED)
    os.close(fd)
