"""OPEN of files that the kernel reads by itself from their cache files.

The holder makes the backing ids, one a row, and they stay until the file leaves the cache or others
need the place. Three rules keep `open` from failing, since the kernel looks a name up again after
ESTALE once and no more:

* A name leads to a passed-through node only while its cache file has an id, or is held open here
  until the open that follows.
* An open of a plain node is answered ESTALE, to have the name looked up again, only when the last
  look-up did not just lead there; a server that took over does not know that for a while.
* An id that is to go is still given to opens for a while, until no name leads to it.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from fluidpy.client.protocol import EntryTuple, Message
from fluidpy.fuse.attributes import node_of_row
from fluidpy.fuse.backed_files import BackedFiles
from fluidpy.fuse.cache_leases import CacheLeases
from fluidpy.fuse.device import Device
from fluidpy.fuse.direct_files import OpensCacheFiles
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import OPEN_OUT, OpenFlag
from fluidpy.fuse.known_opens import KnownOpens
from fluidpy.fuse.node_ids import passed_through
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
from fluidpy.fuse.requests_in_flight import RequestsInFlight
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.storage.under_storage import Kind

MOST_BACKINGS: Final = 16384
"""Backing ids of a mount: each keeps a file open in the kernel, about 2 KiB of its memory."""

MOST_OFFERED: Final = 1024
"""Cache files held open for opens that may follow a look-up; many look-ups are of no open."""

_LEAST_OFFERED: Final = 16

LEAVE_SECONDS: Final = 1.0
"""How long an open may come after the look-up that led to it: the kernel does one after the other,
and a server that follows a killed one needs milliseconds."""

SWEEP_SECONDS: Final = 0.25
"""How often ids that are to go, and rows that the kernel may have forgotten, are looked at."""

_FLAGS: Final = int(OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH)

Tell: TypeAlias = Callable[[Message, tuple[int, ...]], object]
"""Sends a message, with fds, to the holder."""


def fds_offered(most: int) -> int:
    """How many of `most` fds for files that are passed through are for opens that may follow a
    look-up; the others are for files that are fetched.
    """
    return min(MOST_OFFERED, max(_LEAST_OFFERED, most // 4))


class OpensFiles(Protocol):
    """What opens files that are read through this server."""

    def open(self, unique: int, node: int) -> None:
        """Answers OPEN."""

    def release(self, unique: int, node: int) -> None:
        """Answers RELEASE."""


class PassthroughFiles:
    """Opens for a mount whose complete files are passed through."""

    def __init__(
        self,
        loop: EventLoop,
        device: Device,
        catalog: CatalogReader,
        waiting: RequestsInFlight,
        *,
        plain: OpensFiles,
        view: OpensCacheFiles,
        leases: CacheLeases,
        tell: Tell,
        limit: int = MOST_BACKINGS,
        most_held: int = 0,
        most_offered: int = MOST_OFFERED,
    ) -> None:
        """`plain` answers for files that are not passed through, `tell` speaks to the holder.

        Up to `most_held` small files are held open, to be fetched when their names are looked up,
        and `most_offered` of any size for opens that may follow a look-up.
        """
        self._loop = loop
        self._device = device
        self._catalog = catalog
        self._waiting = waiting
        self._plain = plain
        self._view = view
        self._leases = leases
        self._tell = tell
        self._limit = limit
        self._most_offered = most_offered
        self.shown: set[int] = set()
        """Rows with an id that stays: a folder's listing shows them as passed through."""
        self._ids: OrderedDict[int, int] = OrderedDict()
        self._leaving: dict[int, float] = {}
        self._retired: set[int] = set()
        self._asking: dict[int, list[int]] = {}
        self._offered: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._declined: OrderedDict[int, float] = OrderedDict()
        self._knows_look_ups_at = 0.0
        self._backed = BackedFiles(view, most_held)
        self._known = KnownOpens(catalog)
        loop.call_later(SWEEP_SECONDS, self._sweep)

    def take_over(self, backings: Iterable[Sequence[int]], retired: Iterable[int]) -> None:
        """Goes on with what the holder has: rows with ids and inodes, rows whose id is closed."""
        for row, number, ino in backings:
            self._ids[row] = number
            self.shown.add(row)
            self._leases.take(row, ino)
        self._retired.update(retired)
        for row in self._retired:
            self._forget_name(row)
        self._knows_look_ups_at = self._loop.clock() + LEAVE_SECONDS
        self._make_room()  # which ids were on their way out, only the earlier server knew

    # What names lead to.

    def offer(self, entry: EntryTuple) -> bool:
        """Whether the name of this file leads to its passed-through node; the next open counts."""
        row = entry[0]
        if row in self.shown:
            return True
        if row not in self._ids and row not in self._retired and self._hold(entry):
            return True
        self._declined[row] = self._loop.clock()
        self._declined.move_to_end(row)
        return False

    def looked_up(self, entry: EntryTuple) -> None:
        """The kernel has the answer to a look-up: its open and its read may come next."""
        if entry[0] in self.shown:
            self._backed.looked_up(entry)

    def _hold(self, entry: EntryTuple) -> bool:
        """Holds the cache file as it is now for the open that follows; false when there is none.

        One that is held already is let go of: its file may have left the cache since.
        """
        if len(self._ids) >= self._limit and entry[4] < LARGE_FILE_BYTES:
            return False
        fd = self._view.open(entry)
        if fd is None:
            return False
        if entry[0] in self._asking:
            os.close(fd)
            return True
        earlier = self._offered.pop(entry[0], None)
        if earlier is not None:  # looked up, and opened by an older name, at about the same time
            os.close(earlier[0])
        self._offered[entry[0]] = (fd, self._loop.clock())
        if len(self._offered) > self._most_offered:
            os.close(self._offered.popitem(last=False)[1][0])
        return True

    # Opening.

    def open(self, unique: int, node: int) -> None:
        """OPEN."""
        row = node >> 1
        if node & 1 == 0:
            self._open_plain(unique, node, row)
            return
        payload = self._known.get(row)
        if payload is None:
            self._open_unknown(unique, row)
        else:
            self._backed.fetch(row)
            self._device.reply(unique, payload)
            self._used(row)

    def _used(self, row: int) -> None:
        self._ids.move_to_end(row)
        self._leases.use(row)
        if row not in self._leaving:  # nobody would say when the file leaves the cache
            self._backed.opened(row, self._catalog.get)

    def _open_unknown(self, unique: int, row: int) -> None:
        """OPEN of a row that has to be looked up in the catalog."""
        number = self._ids.get(row)
        entry = self._catalog.get(row)
        if entry is None or not entry.live:
            self._device.reply_error(unique, errno.ESTALE)
        elif number is not None and not self._leaves_soon(row):
            payload = OPEN_OUT.pack(0, _FLAGS, number)
            if row not in self._leaving:
                self._known.note(row, payload)
            self._device.reply(unique, payload)
            self._used(row)
        elif number is not None:
            self._device.reply_error(unique, errno.ESTALE)
        elif row in self._asking:
            self._waiting.begin(unique)
            self._asking[row].append(unique)
        else:
            self._ask(unique, entry)

    def _leaves_soon(self, row: int) -> bool:
        """Whether an open could find the id closed when it comes to use it: the kernel does that
        after it has our answer. No name has led here for long by then.
        """
        since = self._leaving.get(row)
        return since is not None and self._loop.clock() - since > LEAVE_SECONDS / 2

    def _open_plain(self, unique: int, node: int, row: int) -> None:
        declined = row in self._declined or self._loop.clock() < self._knows_look_ups_at
        if not declined and row not in self._retired and row not in self._leaving:
            entry = self._catalog.get(row)
            if (
                entry is not None
                and entry.live
                and entry.kind == Kind.FILE
                and (row in self._ids or self._hold(entry))
            ):
                self._device.reply_error(unique, errno.ESTALE)
                return
        self._plain.open(unique, node)

    def _ask(self, unique: int, entry: Entry) -> None:
        fd, _since = self._offered.pop(entry.id, (None, 0.0))
        if fd is None and entry.id not in self._retired:
            fd = self._view.open(entry)
        if fd is None:
            self._device.reply_error(unique, errno.ESTALE)
            return
        self._waiting.begin(unique)
        self._asking[entry.id] = [unique]
        self._make_room()
        try:
            self._leases.take(entry.id, os.fstat(fd).st_ino)
            self._tell({"backingOpen": {"row": entry.id}}, (fd,))
        finally:
            os.close(fd)

    def on_backing(self, answer: Message) -> None:
        """The holder's answer to `backingOpen`."""
        row, number = int(answer["row"]), answer.get("id")
        uniques = self._asking.pop(row, [])
        if number is None:
            self._leases.give_back(row)
            self._declined[row] = self._loop.clock()
            for unique in uniques:
                if self._waiting.take(unique):
                    self._device.reply_error(unique, errno.ESTALE)
            return
        self._ids[row] = int(number)
        if row in self._leaving:
            self._leaving[row] = self._loop.clock()
        else:
            self.shown.add(row)
        payload = OPEN_OUT.pack(0, _FLAGS, number)
        for unique in uniques:
            self._waiting.reply(unique, payload)

    def release(self, unique: int, node: int) -> None:
        """RELEASE."""
        if node & 1:
            self._device.reply_after_others(unique)
            self._backed.closed(node >> 1)
        else:
            self._plain.release(unique, node)

    # Leaving.

    def completed(self, row: int) -> None:
        """The cache has all of a file now: its next open need not go through this server."""
        entry = self._catalog.get(row)
        if entry is not None and entry.live and row not in self._retired:
            self._declined.pop(row, None)
            self._device.invalidate_entry(node_of_row(entry.parent), entry.name)

    def leave(self, rows: Iterable[int]) -> None:
        """Cache files of these rows are gone, or stand for old versions: their ids are to go."""
        now = self._loop.clock()
        for row in rows:
            if (row in self._ids or row in self._asking) and row not in self._leaving:
                self._leaving[row] = now
                self._known.forget(row)
                self._backed.leave(row)
                self.shown.discard(row)
                self._forget_name(row)

    def _forget_name(self, row: int) -> None:
        entry = self._catalog.get(row)
        if entry is not None:
            self._device.invalidate_entry(node_of_row(entry.parent), entry.name)

    def _make_room(self) -> None:
        excess = len(self._ids) - len(self._leaving) + len(self._asking) - self._limit
        if excess > 0:
            rows = (row for row in self._ids if row not in self._leaving)
            wanted = excess + self._limit // 16
            self.leave([row for row, _ in zip(rows, range(wanted), strict=False)])

    def _sweep(self) -> None:
        now = self._loop.clock()
        self._close_left(now)
        while self._offered and now - next(iter(self._offered.values()))[1] > LEAVE_SECONDS:
            os.close(self._offered.popitem(last=False)[1][0])
        while self._declined and now - next(iter(self._declined.values())) > LEAVE_SECONDS:
            self._declined.popitem(last=False)
        for row in list(self._retired):
            self._check(row)
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _check(self, row: int) -> None:
        def absent() -> None:
            self._loop.call_from_thread(lambda: self._forgotten(row))

        self._device.check_node(passed_through(row), absent)

    def _close_left(self, now: float) -> None:
        rows = [
            row
            for row, since in self._leaving.items()
            if now - since >= LEAVE_SECONDS and row not in self._asking
        ]
        closed = []
        for row in rows:
            del self._leaving[row]
            if self._ids.pop(row, None) is not None:
                closed.append(row)
        if closed:
            self._retired.update(closed)
            self._tell({"backingClose": {"rows": closed}}, ())
            for row in closed:
                self._forget_name(row)  # a look-up under way while they left may have been later

    def _forgotten(self, row: int) -> None:
        """The kernel has no inode of the row's passed-through node any more."""
        if row in self._retired:
            self._retired.discard(row)
            self._leases.give_back(row)
            self._tell({"forgotten": {"rows": [row]}}, ())

    def close(self) -> None:
        """Closes what is held open for opens to come."""
        self._backed.close()
        while self._offered:
            os.close(self._offered.popitem()[1][0])
