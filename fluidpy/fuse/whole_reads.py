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

ONE_OF: Final = 31
"""Of so many files that are about to be opened one is looked at while all are read. It is odd:
each may be asked for twice, when its name is looked up and when it is opened, and is in memory
then."""


class WholeReads:
    """Follows opens and closes of files by their rows; all are taken to be read at first."""

    def __init__(self, in_memory: Callable[[int], bool | None]) -> None:
        """`in_memory` says of an fd whether the kernel has all pages; None where it cannot tell."""
        self._in_memory = in_memory
        self._watched: set[int] = set()
        self._turn = 0
        self._trust = Trust()
        while not self._trust.enough:
            self._trust.was_read()

    def fetch(self, row: int, fd: int) -> bool:
        """Whether a file that is about to be opened is to be fetched."""
        if row in self._watched:
            return False
        if self._trust.enough:
            self._turn = (self._turn + 1) % ONE_OF
            if self._turn:
                return True  # costs less than to ask, where nothing is to be fetched
        known = self._in_memory(fd)
        if known is False:
            self._watched.add(row)
        return known is None

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
