"""Which files leave first. One protocol; least recently used is the policy there is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

_MOST_RECENT: Final = 65536
"""Uses remembered between two readings of the order; past it the order is simply read anew."""


class FileId(NamedTuple):
    """One cache file: the object's key, and the segment's number (0 for an unsegmented object)."""

    key: bytes
    number: int


class Candidate(NamedTuple):
    """A file that may leave, and when it was last used as the policy knew when it chose it."""

    file: FileId
    last_use: int


class UseOrder(Protocol):
    """What a policy keeps its order in (the index: it outlives the process)."""

    def oldest(self, tier: int, limit: int) -> list[Candidate]:
        """The `limit` files of a tier used longest ago that are not pinned."""
        ...

    def touch(self, file: FileId, last_use: int) -> None:
        """Queues a new time of last use."""
        ...


class EvictionPolicy(Protocol):
    """The order in which files leave a tier. Called under the store's lock; does no file I/O."""

    def touch(self, file: FileId) -> int:
        """Notes a use; returns the time noted, in milliseconds since the epoch."""
        ...

    def add(self, file: FileId, tier: int) -> int:
        """Notes a new file; returns the time noted, in milliseconds since the epoch."""
        ...

    def remove(self, file: FileId, tier: int) -> None:
        """Forgets a file that left."""
        ...

    def victims(self, tier: int) -> Iterator[FileId]:
        """Files of a tier, the first to leave first; the caller skips those it may not take."""
        ...


class LeastRecentlyUsed:
    """Files used longest ago leave first; the order survives in the index, to the millisecond.

    Candidates are read from the index in batches, and one that was used since is passed over, so
    that an eviction costs microseconds however many files there are.
    """

    def __init__(self, order: UseOrder, *, batch: int = 512) -> None:
        self._order = order
        self._batch = batch
        self._queues: dict[int, deque[Candidate]] = {}
        self._recent: dict[FileId, int] = {}
        self._clock = 0

    def _tick(self) -> int:
        self._clock = max(self._clock + 1, time.time_ns() // 1_000_000)
        return self._clock

    def touch(self, file: FileId) -> int:
        """Notes a use; returns its time."""
        now = self._tick()
        self._order.touch(file, now)
        if self._queues:
            self._recent[file] = now
            if len(self._recent) > _MOST_RECENT:
                self._queues.clear()
                self._recent.clear()
        return now

    def add(self, file: FileId, tier: int) -> int:
        """Notes a new file; the index learns of it with its row."""
        return self._tick()

    def remove(self, file: FileId, tier: int) -> None:
        """Forgets a file."""
        self._recent.pop(file, None)

    def victims(self, tier: int) -> Iterator[FileId]:
        """Files in order of last use. A whole pass without a taken file ends the iteration."""
        queue = self._queues.get(tier)
        while queue:
            candidate = queue.popleft()
            if self._recent.get(candidate.file, 0) <= candidate.last_use:
                yield candidate.file
        yield from self._fresh_pass(tier)

    def _fresh_pass(self, tier: int) -> Iterator[FileId]:
        """Reads candidates anew, in batches that double until all files were offered."""
        limit = self._batch
        offered: set[FileId] = set()
        while True:
            self._recent.clear()
            found = self._order.oldest(tier, limit)
            queue = self._queues[tier] = deque(c for c in found if c.file not in offered)
            while queue:
                candidate = queue.popleft()
                offered.add(candidate.file)
                if self._recent.get(candidate.file, 0) <= candidate.last_use:
                    yield candidate.file
            if len(found) < limit:
                return
            limit *= 2
