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


COPY_AGE: Final = 1 << 42
"""The index notes the use of a copy this many milliseconds (139 years) earlier: so copies come
first in the order that there is, and cost a row no byte. Such times are below zero."""


def noted_use(last_use: int, copy: bool) -> int:
    """The time of use as the index has it, of one in milliseconds since the epoch."""
    return last_use - COPY_AGE if copy else last_use


def real_use(noted: int) -> int:
    """The time of use in milliseconds since the epoch, of one that the index has."""
    return noted + COPY_AGE if noted < 0 else noted


class Candidate(NamedTuple):
    """A file that may leave, and when it was last used as the policy knew when it chose it."""

    file: FileId
    last_use: int


class UseOrder(Protocol):
    """What a policy keeps its order in (the index: it outlives the process)."""

    def oldest(self, tier: int, limit: int, copies: bool) -> list[Candidate]:
        """The `limit` files of a tier used longest ago that are not pinned: copies, or others."""
        ...

    def touch(self, file: FileId, last_use: int) -> None:
        """Queues a new time of last use."""
        ...


class EvictionPolicy(Protocol):
    """The order in which files leave a tier. Called under the store's lock; does no file I/O."""

    def touch(self, file: FileId) -> int:
        """Notes a use; returns the time noted, in milliseconds since the epoch."""
        ...

    def add(self, file: FileId, tier: int, copy: bool = False) -> int:
        """Notes a new file, or that it is a copy now; returns the time noted, as `touch` does."""
        ...

    def remove(self, file: FileId, tier: int) -> None:
        """Forgets a file that left."""
        ...

    def victims(self, tier: int, copies_only: bool = False) -> Iterator[FileId]:
        """Files of a tier, the first to leave first; the caller skips those it may not take."""
        ...


class LeastRecentlyUsed:
    """Files used longest ago leave first; the order survives in the index, to the millisecond.

    Copies of what another worker keeps leave before all others, in the same order. Candidates are
    read from the index in batches, and one that was used since is passed over, so that an eviction
    costs microseconds however many files there are.
    """

    def __init__(self, order: UseOrder, *, batch: int = 512) -> None:
        self._order = order
        self._batch = batch
        self._queues: dict[tuple[int, bool], deque[Candidate]] = {}
        self._recent: dict[FileId, int] = {}
        self._without_copies: set[int] = set()
        """Tiers in which there were none when last looked, and none came since."""
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

    def add(self, file: FileId, tier: int, copy: bool = False) -> int:
        """Notes a new file; the index learns of it with its row."""
        if copy:
            self._without_copies.discard(tier)
        return self._tick()

    def remove(self, file: FileId, tier: int) -> None:
        """Forgets a file."""
        self._recent.pop(file, None)

    def victims(self, tier: int, copies_only: bool = False) -> Iterator[FileId]:
        """Files in order of last use. A whole pass without a taken file ends the iteration."""
        if tier not in self._without_copies:
            yield from self._of_kind(tier, True)
        if not copies_only:
            yield from self._of_kind(tier, False)

    def _of_kind(self, tier: int, copies: bool) -> Iterator[FileId]:
        queue = self._queues.get((tier, copies))
        while queue:
            candidate = queue.popleft()
            if self._recent.get(candidate.file, 0) <= candidate.last_use:
                yield candidate.file
        yield from self._fresh_pass(tier, copies)

    def _fresh_pass(self, tier: int, copies: bool) -> Iterator[FileId]:
        """Reads candidates anew, in batches that double until all files were offered."""
        limit = self._batch
        offered: set[FileId] = set()
        while True:
            found = self._order.oldest(tier, limit, copies)
            if copies and not found:
                self._without_copies.add(tier)
                return
            self._forget_recent((tier, copies))
            queue = self._queues[tier, copies] = deque(c for c in found if c.file not in offered)
            while queue:
                candidate = queue.popleft()
                offered.add(candidate.file)
                if self._recent.get(candidate.file, 0) <= candidate.last_use:
                    yield candidate.file
            if len(found) < limit:
                return
            limit *= 2

    def _forget_recent(self, read: tuple[int, bool]) -> None:
        """What is read now knows all uses so far; they matter while another queue is older."""
        if not any(queue for key, queue in self._queues.items() if key != read):
            self._recent.clear()
