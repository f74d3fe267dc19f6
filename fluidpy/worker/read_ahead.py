"""Which bytes to fetch before a reader asks for them: pure decisions, no clock, no I/O.

One `ReadAhead` belongs to one open handle. It follows up to `MAX_STREAMS` sequential streams, since
a mount shares one handle between all readers of a file. A read belongs to the stream whose frontier
(the end of what was read so far) it is near to; near, not equal, because the kernel sends the reads
of one reader out of order. A stream must have read at least half of what its frontier passed
lately: this tells out-of-order reads, which soon fill the gaps, from strides, which never do.

Windows grow from `INITIAL_WINDOW_BYTES` each time the reader has used up a quarter of the last
one. A read elsewhere starts a stream without a window: it must go on forwards first, unless it
starts at the beginning of the file. A stream that becomes sparse loses its window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

MIB: Final = 1024 * 1024

INITIAL_WINDOW_BYTES: Final = 2 * MIB
"""First window of a stream; twice the largest FUSE read, so that the next read finds its bytes."""

WHOLE_FILE_BYTES: Final = 4 * MIB
"""A file up to this size is fetched whole at its first read: one request costs as much as two."""

REORDER_BYTES: Final = 4 * MIB
"""How far from the frontier a read may start and still belong to the stream. The kernel keeps up
to `max_readahead` bytes of reads under way, and several threads may share a handle."""

MEMORY_BYTES: Final = 16 * MIB
"""How far back a stream's density is looked at: a long run does not excuse strides after it."""

GROWTH: Final = 4
"""How many times larger the next window is: on the way up the source is never busy, so the way is
short (64 MiB by the fourth read instead of the sixth)."""

ALIGNED_BYTES: Final = 8 * MIB
"""Plans of more than this end at a multiple of it. Sources keep large objects in parts of 4, 8 or
16 MiB, and a range across their bounds costs them more."""

PROMISE_SHARE: Final = 4
"""The part of a stream's window that its reader may be promised at once, with what it asked for."""

MAX_STREAMS: Final = 4
"""Streams followed in one handle; the least recently used one makes room."""


class Plan(NamedTuple):
    """Bytes `[start, end)` to fetch ahead; empty when there is nothing to do."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start


NOTHING: Final = Plan(0, 0)


@dataclass(slots=True)
class _Stream:
    """A run of reads: how far it came, and how much of what it passed lately was read."""

    frontier: int
    window: int
    planned: int
    """End of what was planned ahead; never below the frontier."""
    passed: int = 0
    covered: int = 0
    promised: int = 0
    """How much of what lies before the frontier was promised at last: reads in it may come yet."""

    def is_dense(self) -> bool:
        return 2 * self.covered >= self.passed

    def near(self, start: int) -> bool:
        behind = self.promised + REORDER_BYTES
        return self.frontier - behind <= start <= self.frontier + REORDER_BYTES

    def advance(self, start: int, end: int) -> int:
        """Moves the frontier for a read; returns how many planned bytes it reached."""
        goes_on = end > self.frontier and self.covered > 0
        used = max(0, min(end, self.planned) - self.frontier)
        self.passed += max(0, end - self.frontier)
        if end > self.frontier:
            self.promised = 0
        self.frontier = max(self.frontier, end)
        self.covered = min(self.covered + end - start, self.passed)
        self.planned = max(self.planned, self.frontier)
        if self.passed > MEMORY_BYTES:
            self.passed //= 2
            self.covered //= 2
        if not self.is_dense():
            self.window = 0
        elif goes_on and self.window == 0:
            self.window = INITIAL_WINDOW_BYTES // GROWTH
        return used


class ReadAhead:
    """The read-ahead of one handle of a file of `size` bytes.

    `largest_window` is the bound of one stream's window in bytes. `planned_bytes`, `used_bytes` and
    `wasted_bytes` say how good the plans were; used and wasted together never exceed planned.
    """

    __slots__ = (
        "_largest_window",
        "_size",
        "_streams",
        "planned_bytes",
        "used_bytes",
        "wasted_bytes",
    )

    def __init__(self, size: int, largest_window: int) -> None:
        """Nothing was read yet."""
        self._size = size
        self._largest_window = largest_window
        self._streams: list[_Stream] = []
        self.planned_bytes = 0
        self.used_bytes = 0
        self.wasted_bytes = 0

    def read(self, start: int, end: int, allowance: int) -> Plan:
        """Takes note of a read of `[start, end)` and says what to fetch ahead of the reader.

        `allowance` is how many bytes may be planned at most (what the budget of all readers still
        has). A plan starts where the stream's last one ended, so no byte is planned twice in a
        stream, and it never goes beyond the end of the file.
        """
        if not 0 <= start < end <= self._size:
            return NOTHING
        if self._size <= WHOLE_FILE_BYTES:
            return self._whole_file(start, end, allowance)
        stream = self._stream_of(start)
        self.used_bytes += stream.advance(start, end)
        return self._plan(stream, end - start, allowance) if stream.window else NOTHING

    def narrow(self, largest_window: int) -> None:
        """Windows are so large at most from now on; what is planned beyond is planned anew."""
        if self._largest_window <= largest_window:
            return
        self._largest_window = largest_window
        for stream in self._streams:
            stream.window = min(stream.window, largest_window)
            planned = min(stream.planned, stream.frontier + largest_window)
            self.wasted_bytes += stream.planned - planned
            stream.planned = planned

    def promise(self, end: int) -> int:
        """How many bytes from `end` on the reader that has just read up to there is sure to want.

        None of a reader that is not sequential. Whoever promises them calls `promised`.
        """
        stream = self._streams[0] if self._streams else None
        if stream is None or stream.frontier != end:
            return 0
        return min(stream.window // PROMISE_SHARE, self._size - end)

    def promised(self, end: int, until: int) -> None:
        """The reader goes on to `until` without asking; its next read tells whether it did.

        Nothing is planned for that before. Reads that were under way meanwhile may come after this.
        """
        stream = self._streams[0]
        self.used_bytes += stream.advance(end, until)
        stream.promised = until - end

    def close(self) -> None:
        """The reader is gone: what was planned and not read is wasted."""
        for stream in self._streams:
            self.wasted_bytes += stream.planned - stream.frontier
        self._streams.clear()

    def _whole_file(self, start: int, end: int, allowance: int) -> Plan:
        """One stream over the file; the first read plans all that lies around it."""
        if self._streams:
            self.used_bytes += self._streams[0].advance(start, end)
            return NOTHING
        rest = self._size - (end - start)
        whole = 0 < rest <= allowance
        frontier = self._size - rest if whole else end
        self._streams.append(_Stream(frontier, 0, self._size if whole else frontier, 1, 1))
        if not whole:
            return NOTHING
        self.planned_bytes += rest
        return Plan(0, self._size)

    def _stream_of(self, start: int) -> _Stream:
        """The stream a read belongs to, moved to the front; a new one when it is near none."""
        for index, stream in enumerate(self._streams):
            if stream.near(start):
                if index:
                    self._streams.insert(0, self._streams.pop(index))
                return stream
        stream = _Stream(start, INITIAL_WINDOW_BYTES // GROWTH if start == 0 else 0, start)
        self._streams.insert(0, stream)
        if len(self._streams) > MAX_STREAMS:
            oldest = self._streams.pop()
            self.wasted_bytes += oldest.planned - oldest.frontier
        return stream

    def _plan(self, stream: _Stream, length: int, allowance: int) -> Plan:
        """Grows the window once a quarter of it is used up, and plans up to its end.

        The window is at least two reads of this `length`, so that the next one finds its bytes.
        """
        ahead = stream.planned - stream.frontier
        if stream.planned >= self._size or 4 * ahead > 3 * stream.window:
            return NOTHING
        window = min(max(GROWTH * stream.window, 2 * length), self._largest_window)
        end = min(stream.frontier + window, self._size, stream.planned + allowance)
        if end <= stream.planned:
            return NOTHING
        if end < self._size and end - stream.planned > ALIGNED_BYTES:
            end -= end % ALIGNED_BYTES
        plan = Plan(stream.planned, end)
        stream.planned, stream.window = end, window
        self.planned_bytes += plan.size
        return plan
