"""STATFS: how many files and bytes a Dataset has, counted beside the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from fluidpy.errors import FluidpyError
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import STATFS_OUT
from fluidpy.fuse.requests_in_flight import RequestsInFlight
from fluidpy.namespace.catalog import Totals

KEPT_SECONDS: Final = 30.0
"""How long a count serves: over a million files it takes a fraction of a second."""

_UNIT: Final = 4096
"""Block size that sizes are told in, in bytes."""

_NAME_BYTES: Final = 255
"""Longest name (`NAME_MAX`)."""


def pack_statfs(totals: Totals) -> bytes:
    """`fuse_statfs_out` of a full, read-only file system."""
    blocks = -(-totals.bytes // _UNIT)
    return STATFS_OUT.pack(blocks, 0, 0, totals.files, 0, _UNIT, _NAME_BYTES, _UNIT, 0)


class TreeStatistics:
    """Answers STATFS; one count at a time, in a thread, kept for a while."""

    def __init__(
        self, loop: EventLoop, waiting: RequestsInFlight, count: Callable[[], Totals]
    ) -> None:
        """`count` is called in a thread of its own, and must not use the loop's catalog."""
        self._loop = loop
        self._waiting = waiting
        self._count = count
        self._payload = b""
        self._counted_at = -KEPT_SECONDS
        self._asking: list[int] = []

    def reply(self, unique: int) -> None:
        """Answers now, or when the count is done."""
        self._waiting.begin(unique)
        if self._payload and self._loop.clock() - self._counted_at < KEPT_SECONDS:
            self._waiting.reply(unique, self._payload)
            return
        self._asking.append(unique)
        if len(self._asking) == 1:
            threading.Thread(target=self._work, name="statfs", daemon=True).start()

    def _work(self) -> None:
        try:
            totals = self._count()
        except FluidpyError as error:
            failure = error
            self._loop.call_from_thread(lambda: self._failed(failure))
        else:
            self._loop.call_from_thread(lambda: self._counted(totals))

    def _counted(self, totals: Totals) -> None:
        self._payload = pack_statfs(totals)
        self._counted_at = self._loop.clock()
        asking, self._asking = self._asking, []
        for unique in asking:
            self._waiting.reply(unique, self._payload)

    def _failed(self, error: FluidpyError) -> None:
        asking, self._asking = self._asking, []
        for unique in asking:
            self._waiting.fail(unique, "/", error)
