"""Whether a catalog was written to, without a query: by the header of its WAL index.

SQLite keeps in the `-shm` file what a reader's snapshot is made of, and begins each read with a
look at it (https://sqlite.org/walformat.html, "The WAL-Index Header"). A commit writes the first 48
bytes last; they hold salts and a checksum over the whole log, so no two states share them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_HEADER_BYTES: Final = 48
_VERSION: Final = (3007000).to_bytes(4, sys.byteorder)
"""`iVersion` of the header, in the machine's own byte order."""


class CatalogChanges:
    """The state of one catalog as a mark to compare.

    To be made while a connection of this process to the catalog is open, and closed after all of
    them: POSIX takes a process's locks on a file away when any fd of it is closed.
    """

    def __init__(self, catalog: Path) -> None:
        """Without a WAL index, or with one of another form, all marks are empty."""
        try:
            self._fd = os.open(f"{catalog}-shm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def mark(self) -> bytes:
        """Stands for what a read that begins now would see, or for something earlier than that;
        empty when that is not known. Equal ones: nothing was committed in between. About 1 µs.

        A mark taken before a read is therefore good for what was read.
        """
        if self._fd < 0:
            return b""
        try:
            header = os.pread(self._fd, _HEADER_BYTES, 0)
        except OSError:
            return b""
        return header if header.startswith(_VERSION) and len(header) == _HEADER_BYTES else b""

    def close(self) -> None:
        """Lets go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
