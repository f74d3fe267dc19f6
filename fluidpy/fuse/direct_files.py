"""Complete cache files opened without the worker, and pages that are in memory twice.

Where the kernel keeps the mount's own pages, those of the cache file below are of no use once they
were read. They are dropped late and together: who reads a file again at once (a header, then the
whole) and who reads it by another way meanwhile find them still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from fluidpy.fuse.open_files import HeldFd, OpenFile
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
from fluidpy.namespace.catalog import Entry

DROP_BYTES: Final = 32 * 1024 * 1024
"""How much of a large file is read before its cache file's pages up to there are dropped."""

DROP_FILES: Final = 64
"""Small files read to their end that are closed, their pages dropped, together."""


class OpensCacheFiles(Protocol):
    """What opens complete cache files."""

    def open(self, entry: Entry) -> int | None:
        """An fd of the whole file, the caller's; None when there is none."""


class DirectFiles:
    """Opens small complete files, and drops pages that were read."""

    def __init__(
        self,
        view: OpensCacheFiles | None,
        *,
        on_used: Callable[[int], None],
        close: Callable[[OpenFile], None],
    ) -> None:
        """`on_used` hears of rows that were opened; `close` lets go of a file if nobody reads."""
        self._view = view
        self._on_used = on_used
        self._close = close
        self._read_whole: list[OpenFile] = []
        self.kernel_keeps_pages = True
        """Whether pages of cache files are of no use once they were read."""

    def open(self, file: OpenFile, entry: Entry) -> None:
        """Opens the cache file of a small file if it is complete; large ones are the worker's."""
        if self._view is None or entry.size >= LARGE_FILE_BYTES:
            return
        fd = self._view.open(entry)
        if fd is not None:
            file.held, file.complete = HeldFd(fd), True
            self._on_used(file.row)

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
            if len(self._read_whole) >= DROP_FILES:
                self.close_read_whole()

    def close_read_whole(self) -> None:
        """Closes the small files that were read to their end."""
        files, self._read_whole = self._read_whole, []
        for file in files:
            self._close(file)
