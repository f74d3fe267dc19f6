"""Whether files that are opened are read to their end, of late: where the kernel reads by itself,
nobody says so.

Now and then a file whose pages are not in memory is left to its reader, and looked at when it is
closed: who read all of it has brought all its pages there. Who reads headers only, or opens files
and closes them, is recognised by that, and then every such file is looked at, until they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluidpy.fuse.expected_reads import Trust

ONE_OF: Final = 32
"""Of so many files that are not in memory one is left to its reader while all are read."""


class WholeReads:
    """Follows opens and closes of files by their rows; all are taken to be read at first."""

    def __init__(self, in_memory: Callable[[int], bool | None]) -> None:
        """`in_memory` says of an fd whether the kernel has all pages; None where it cannot tell."""
        self._in_memory = in_memory
        self._watched: set[int] = set()
        self._fetched = 0
        self._trust = Trust()
        while not self._trust.enough:
            self._trust.was_read()

    def fetch(self, row: int, fd: int) -> bool:
        """Whether a file that is about to be opened is to be fetched."""
        known = self._in_memory(fd)
        if known or row in self._watched:
            return False
        if known is None:
            return True
        if self._trust.enough:
            self._fetched += 1
            if self._fetched % ONE_OF:
                return True
        self._watched.add(row)
        return False

    def closed(self, row: int, fd: int | None) -> None:
        """The file of a row was closed by who had it open; `fd` is of it, None if there is none."""
        if row not in self._watched:
            return
        self._watched.discard(row)
        if fd is None:
            return
        if self._in_memory(fd):
            self._trust.was_read()
        else:
            self._trust.was_not_read()

    def forget(self, row: int) -> None:
        """The file is not held any more."""
        self._watched.discard(row)
