"""Small cache files that the kernel reads by itself, held open so that their bytes can be fetched
from the disk as soon as a name is looked up, or an open asked for: while the kernel goes on to its
OPEN and its read. Whether that is worth it is seen by what readers do of late: opens that follow
look-ups, and reads of the whole file that follow opens.

Held files need no look at index or directory, which would keep the OPEN that follows waiting.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.direct_files import OpensCacheFiles
from fluidpy.fuse.expected_reads import MOST_EXPECTED, Trust
from fluidpy.fuse.pages_in_memory import all_in_memory
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
from fluidpy.fuse.whole_reads import WholeReads

MOST_HELD: Final = 16384
"""Files held: as many as there are backing ids, each of which holds its file in the kernel, too."""


class BackedFiles:
    """Fetches what was looked up, where look-ups were followed by opens of late, and what is opened
    again, where such files were read to their end.
    """

    def __init__(
        self,
        view: OpensCacheFiles,
        limit: int = MOST_HELD,
        in_memory: Callable[[int], bool | None] = all_in_memory,
    ) -> None:
        """`view` opens complete cache files; at most `limit` of them are held. `in_memory` says of
        an fd whether the kernel has all pages of the file, or None.
        """
        self._view = view
        self._limit = min(limit, MOST_HELD)
        self._trust = Trust()
        self._expected: OrderedDict[int, None] = OrderedDict()
        self._held: OrderedDict[int, int] = OrderedDict()
        self._opened_once: set[int] = set()
        self._large: set[int] = set()
        self._reads = WholeReads(in_memory)

    def __len__(self) -> int:
        """How many files are held."""
        return len(self._held)

    def looked_up(self, entry: EntryTuple) -> None:
        """The name of a file with a backing id was looked up."""
        row, size = entry[0], entry[4]
        if size >= LARGE_FILE_BYTES or not self._limit:
            return
        if self._trust.enough:
            fd = self._held[row] if row in self._held else self._hold(entry)
            if fd is not None and self._reads.fetch(row, fd):
                os.posix_fadvise(fd, 0, size, os.POSIX_FADV_WILLNEED)
        self._expected[row] = None
        if len(self._expected) > MOST_EXPECTED:
            self._expected.popitem(last=False)
            self._trust.was_not_read()

    def fetch(self, row: int) -> None:
        """The file is about to be opened, and read: whoever opens it would begin that later, when
        he has the answer. Where its pages are in memory this costs 2 µs.
        """
        fd = self._held.get(row)
        if fd is not None and self._reads.fetch(row, fd):
            os.posix_fadvise(fd, 0, LARGE_FILE_BYTES, os.POSIX_FADV_WILLNEED)

    def opened(self, row: int, find: Callable[[int], EntryTuple | None]) -> None:
        """The file was opened; one that is opened again is held. `find` asks the catalog."""
        if row in self._expected:
            del self._expected[row]
            self._trust.was_read()
        if row in self._held or row in self._large or not self._limit:
            return
        if row not in self._opened_once:
            _note(self._opened_once, row)
            return
        entry = find(row)
        if entry is None:
            return
        if entry[4] < LARGE_FILE_BYTES:
            self._hold(entry)
        else:
            _note(self._large, row)

    def closed(self, row: int) -> None:
        """Somebody who had the file open has closed it."""
        self._reads.closed(row, self._held.get(row))

    def _hold(self, entry: EntryTuple) -> int | None:
        fd = self._view.open(entry)
        if fd is not None:
            self._held[entry[0]] = fd
            if len(self._held) > self._limit:
                self._let_go(next(iter(self._held)))
        return fd

    def leave(self, row: int) -> None:
        """Lets go of a file that has left the cache, or whose id is to go; another file may stand
        for the row later.
        """
        self._expected.pop(row, None)
        self._large.discard(row)
        self._let_go(row)

    def _let_go(self, row: int) -> None:
        fd = self._held.pop(row, None)
        if fd is not None:
            os.close(fd)
            self._reads.forget(row)

    def close(self) -> None:
        """Lets go of all."""
        while self._held:
            os.close(self._held.popitem()[1])


def _note(rows: set[int], row: int) -> None:
    """Adds a row; where there are too many, the others are forgotten."""
    if len(rows) >= MOST_HELD:
        rows.clear()
    rows.add(row)
