"""Small files whose names were looked up a moment ago: where most are read next, their bytes are
fetched from the disk while the kernel goes from the name to its READ.

Who looks names up and reads nothing (`stat`, `find`) is soon recognised, and costs nothing then.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES

MOST_EXPECTED: Final = 128
"""Look-ups that may wait for their READ: that many readers at once are told apart from none."""

_MOST_TRUST: Final = 16
_ENOUGH_TRUST: Final = 8
_LOST_TRUST: Final = 2


class Trust:
    """Whether a look-up of late meant a read: a number that reads raise and others lower."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        """None yet."""
        self.value = 0

    @property
    def enough(self) -> bool:
        """Whether a read is to be expected."""
        return self.value >= _ENOUGH_TRUST

    def was_read(self) -> None:
        """A file that was looked up was read."""
        self.value = min(_MOST_TRUST, self.value + 1)

    def was_not_read(self) -> None:
        """One was not, for a long time."""
        self.value = max(0, self.value - _LOST_TRUST)


class Expected(NamedTuple):
    """A file that was looked up; with the fd of its cache file if that is being fetched."""

    entry: EntryTuple
    fd: int | None
    sweep: int


class ExpectedReads:
    """The last look-ups of small files that were not followed by a READ yet."""

    def __init__(self, open_file: Callable[[EntryTuple], int | None]) -> None:
        """`open_file` gives an fd of a complete cache file, the caller's, or None."""
        self._open = open_file
        self._trust = Trust()
        self.rows: OrderedDict[int, Expected] = OrderedDict()
        """What is expected, by row; to be looked at."""
        self._sweeps = 0

    def looked_up(self, entry: EntryTuple) -> None:
        """A name was looked up; begins to fetch its bytes if a read is to be expected."""
        row, size = entry[0], entry[4]
        if size >= LARGE_FILE_BYTES or row in self.rows:
            return
        fd = self._open(entry) if self._trust.enough else None
        if fd is not None:
            os.posix_fadvise(fd, 0, size, os.POSIX_FADV_WILLNEED)
        self.rows[row] = Expected(entry, fd, self._sweeps)
        if len(self.rows) > MOST_EXPECTED:
            self._give_up_oldest()

    def take(self, row: int) -> Expected | None:
        """What is known of a file that is read now; an fd is the caller's."""
        expected = self.rows.pop(row, None)
        if expected is not None:
            self._trust.was_read()
        return expected

    def sweep(self) -> None:
        """Gives up what was looked up before the sweep before this one."""
        while self.rows:
            if next(iter(self.rows.values())).sweep == self._sweeps:
                break
            self._give_up_oldest()
        self._sweeps += 1

    def _give_up_oldest(self) -> None:
        self._trust.was_not_read()
        _close(self.rows.popitem(last=False)[1])

    def close(self) -> None:
        """Lets go of all."""
        while self.rows:
            _close(self.rows.popitem()[1])


def _close(expected: Expected) -> None:
    if expected.fd is not None:
        os.close(expected.fd)
