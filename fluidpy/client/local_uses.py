"""What was read without the worker, told to it now and then: for its counters and its eviction.

A message a second at most, and none that is waited for. What cannot be told is dropped: counters
are estimates, and a file that is evicted too early costs time, not bytes.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

TOLD_SECONDS: Final = 1.0
"""Uses are told when this long has passed since they were told last, and at the end."""

MOST_KEYS: Final = 1000
"""Keys in one message (35 bytes each); with as many, uses are told at once."""


class LocalUses:
    """Uses of one Dataset's cache files that the worker was not told of yet; for any thread."""

    def __init__(self) -> None:
        """None yet."""
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._told_at = 0.0
        self._clear()

    def _clear(self) -> None:
        self._keys: set[bytes] = set()
        self._opens = self._hits = self._bytes = 0

    def add(self, key: bytes, read_bytes: int | None = None) -> dict[str, Any] | None:
        """Notes that a file was opened, and how many bytes of it were read, if they were already.

        What it answers is to be told now: the fields of a `read_locally`.
        """
        if self._pid != os.getpid():  # the parent tells its own
            self._start_over()
        now = time.monotonic()
        with self._lock:
            self._opens += 1
            if read_bytes is not None:
                self._hits += 1
                self._bytes += read_bytes
            if key:
                self._keys.add(key)
            if now < self._told_at + TOLD_SECONDS and len(self._keys) < MOST_KEYS:
                return None
            self._told_at = now
            return self._take()

    def rest(self) -> dict[str, Any] | None:
        """What was not told yet, if there is any."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            return self._take() if self._opens else None

    def _take(self) -> dict[str, Any]:
        keys = [key.hex() for key in self._keys]
        fields = {
            "keys": keys,
            "opens": self._opens,
            "hits": self._hits,
            "bytes": self._bytes,
        }
        self._clear()
        return fields
