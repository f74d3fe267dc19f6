"""What a mount tells the worker of files that it reads without asking: which, and how long still.

A lease does not keep a file in the cache. It has the worker say when the file leaves, and count its
bytes until the lease is given back: the kernel may read them still. Uses are told now and then, so
that the files used longest ago are the ones to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fluidpy.client.protocol import Message, Operation
from fluidpy.errors import FluidpyError
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.worker_link import Answer, LinkLostError, WorkerLink

LEASE_SECONDS: Final = 0.02
"""How long a new lease may wait for others to be told with it."""

USES_SECONDS: Final = 5.0
"""How often uses are told; the order of eviction need not be finer."""

ROWS_A_MESSAGE: Final = 500
"""Rows in one request: the worker looks at each for about 20 µs, and serves others in between."""

MOST_USES: Final = 100_000
"""Rows remembered as used until they are told; more are not told."""


class CacheLeases:
    """The leases and uses of one mount, told in batches."""

    def __init__(
        self, loop: EventLoop, link: WorkerLink, on_trouble: Callable[[FluidpyError], None]
    ) -> None:
        """None yet; `on_trouble` hears of what the worker refuses."""
        self._loop = loop
        self._link = link
        self._on_trouble = on_trouble
        self._leases: dict[int, int] = {}
        self._new: dict[int, int] = {}
        self._ended: set[int] = set()
        self._used: set[int] = set()
        self._planned = False
        self.on_gone: Callable[[Iterable[int]], None] = lambda _rows: None
        """Hears of rows whose leased cache files have left."""
        loop.call_later(USES_SECONDS, self._tell_uses)

    def take(self, row: int, ino: int) -> None:
        """The cache file with this inode number is in use, for the row."""
        self._leases[row] = self._new[row] = ino
        self._ended.discard(row)
        self._plan()

    def give_back(self, row: int) -> None:
        """Nobody can read it any more."""
        if self._leases.pop(row, None) is not None:
            self._new.pop(row, None)
            self._ended.add(row)
            self._plan()

    def use(self, row: int) -> None:
        """The file was read again."""
        if len(self._used) < MOST_USES:
            self._used.add(row)

    def worker_replaced(self) -> None:
        """Another worker knows of no lease: all are told again."""
        self._new = dict(self._leases)
        self._ended.clear()
        self._plan()

    def event(self, event: Message) -> None:
        """The worker says that leased files have left."""
        self.on_gone([int(row) for row in event.get("rows", [])])

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_later(LEASE_SECONDS, self._tell)

    def _tell(self) -> None:
        self._planned = False
        if not self._link.connected:
            return  # `worker_replaced` tells all
        new, self._new = list(self._new.items()), {}
        ended, self._ended = list(self._ended), set()
        while new or ended:
            fields = {"entries": new[:ROWS_A_MESSAGE], "ended": ended[:ROWS_A_MESSAGE]}
            del new[:ROWS_A_MESSAGE], ended[:ROWS_A_MESSAGE]
            self._link.call(Operation.LEASE, fields, 60.0, self._on_told)

    def _on_told(self, answer: Answer) -> None:
        if answer.error is None:
            self.on_gone([int(row) for row in answer.ok.get("gone", [])])
        elif not isinstance(answer.error, LinkLostError):
            self._on_trouble(answer.error)  # bytes may count too little; reading goes on

    def _tell_uses(self) -> None:
        self._loop.call_later(USES_SECONDS, self._tell_uses)
        if not self._link.connected:
            return
        used, self._used = list(self._used), set()
        for first in range(0, len(used), ROWS_A_MESSAGE):
            fields = {"entries": used[first : first + ROWS_A_MESSAGE]}
            self._link.call(Operation.USED, fields, 60.0, lambda _answer: None)
