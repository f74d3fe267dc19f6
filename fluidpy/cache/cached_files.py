"""Complete cache files as any other process of the same user finds and opens them, read-only.

The owner of a store (the worker) writes a row of the index after the bytes it speaks of, and never
writes into a file again that is complete. So a file that looks as its row says (inode, times, size)
has the object's bytes, whoever opens it: the very test that the owner makes before each use of its
own. Whatever is absent, partial, in segments, in doubt, or changed meanwhile is None here, which
always means to ask the worker.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final, NamedTuple

from fluidpy.cache.boot import boot_id
from fluidpy.cache.fork_safety import SQLITE_LOCK, close_before_forks
from fluidpy.cache.index_schema import SCHEMA_VERSION

_FIND: Final = (
    "SELECT directory, ino, ctime, mtime FROM file JOIN tier ON tier.id=file.tier "
    "WHERE key=? AND number=0 AND file.size=? AND segment=0 AND complete=1 AND generation="
    "(SELECT value FROM meta WHERE name='generation')"
)
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_SECONDS: Final = 0.05
"""How long a lookup waits for a lock of the index: readers need none but for a moment after the
owner was killed, and the worker can be asked instead."""


class WholeFile(NamedTuple):
    """Where all `size` bytes of an object lie, and how the file looks: inode and times as of
    `os.stat`."""

    path: str
    size: int
    ino: int
    ctime: int
    mtime: int

    def open(self) -> int | None:
        """An fd of the file, as `CachedFiles.open_complete`; None when it is not there any more, or
        is another. It leaves its place before the index says so: what was found once is good.
        """
        try:
            fd = os.open(self.path, _OPEN)
        except OSError:  # it left meanwhile; or there are no fds, which the worker's answer tells
            return None
        facts = os.fstat(fd)
        if (
            facts.st_size == self.size
            and facts.st_ino == self.ino
            and facts.st_ctime_ns == self.ctime
            and facts.st_mtime_ns == self.mtime
        ):
            return fd
        os.close(fd)
        return None


class CachedFiles:
    """The complete files of the store whose index lies at `index`; for any thread.

    Costs nothing until the first call. Follows an index that was replaced, and may be carried
    across a fork. No call raises; none starts or asks a worker.
    """

    def __init__(self, index: str, boot: str = "") -> None:
        """`index` is the path that `attach` answers; `boot` names the boot ("": the kernel's)."""
        self.index = index
        self._boot = boot
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        close_before_forks(self)

    def open_complete(self, key: bytes, size: int) -> int | None:
        """An fd, the caller's to close, of the file that has all `size` bytes of the object.

        The fd has its own offset, is read-only and closed on exec. The bytes are right whatever
        becomes of the file: it may leave the cache, but its blocks are never written again. None
        when the worker must be asked: then nothing is known, not even that the file is not cached.
        About 15 µs.
        """
        found = self.find(key, size)
        return None if found is None else found.open()

    def find(self, key: bytes, size: int) -> WholeFile | None:
        """The file that has all bytes of the object; None when the worker must be asked."""
        row = self._find(key, size)
        if row is None:
            return None
        directory, ino, ctime, mtime = row
        name = key.hex()
        return WholeFile(f"{directory}/objects/{name[:2]}/{name}", size, ino, ctime, mtime)

    def _find(self, key: bytes, size: int) -> Any:
        with SQLITE_LOCK:
            row = None
            try:
                if self._connection is not None:
                    row = self._connection.execute(_FIND, (key, size)).fetchone()
                if row is None and self._follow() and self._connection is not None:
                    row = self._connection.execute(_FIND, (key, size)).fetchone()
            except sqlite3.Error:  # damaged, locked, or replaced this moment: the worker knows
                self._drop()
            return row

    def _follow(self) -> bool:
        """Opens the index that is there now; whether it is another than before."""
        try:
            facts = os.stat(self.index)  # noqa: PTH116 - a third of the time that Path takes
        except OSError:
            return False
        identity = (facts.st_dev, facts.st_ino)
        if identity == self._identity:
            return False
        self._drop()
        self._connection = _connect(self.index, self._boot or boot_id())
        self._identity = identity if self._connection is not None else (0, 0)
        return True

    def _drop(self) -> None:
        self._identity = (0, 0)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Ends the connection; harmless when done twice. The next call makes a new one."""
        with SQLITE_LOCK:
            self._drop()


def _connect(index: str, boot: str) -> sqlite3.Connection | None:
    """A connection that only reads; None to an index of another make, or not used since the boot.

    Raises sqlite3.Error.
    """
    connection = sqlite3.connect(
        f"{Path(index).absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=_READ_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA query_only=1")
        meta = dict(connection.execute("SELECT name, value FROM meta"))
    except BaseException:
        connection.close()
        raise
    if meta.get("schema") == SCHEMA_VERSION and meta.get("boot") == boot:
        return connection
    connection.close()
    return None
