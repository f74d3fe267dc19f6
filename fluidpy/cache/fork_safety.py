"""SQLite in a process that forks: no call is under way, and nothing is open, while it does.

A child that inherits SQLite's state may hang in a mutex that a thread of its parent held, believes
to have locks that only its parent has, and dies of SIGBUS once a new worker cuts the shared memory
that those locks guard. So whoever reads databases in a training process holds `SQLITE_LOCK` around
each call, and what is open is closed before a fork; it is opened again at the next use.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

SQLITE_LOCK: Final = threading.RLock()
"""Held around each use of SQLite outside of the worker. Reentrant, since a signal handler may read,
or fork, while its thread holds it.
"""


class Closable(Protocol):
    """What opens its databases again after a `close`."""

    def close(self) -> None:
        """Closes what is open; called with `SQLITE_LOCK` held."""


_open: Final[weakref.WeakSet[Closable]] = weakref.WeakSet()


def close_before_forks(reader: Closable) -> None:
    """Has this reader closed before each fork, as long as it lives."""
    with SQLITE_LOCK:
        _open.add(reader)


def close_readers() -> None:
    """Closes what is open now; the next use opens it again."""
    with SQLITE_LOCK:
        for reader in list(_open):
            reader.close()


def _before() -> None:
    SQLITE_LOCK.acquire()
    close_readers()


os.register_at_fork(
    before=_before, after_in_parent=SQLITE_LOCK.release, after_in_child=SQLITE_LOCK.release
)
