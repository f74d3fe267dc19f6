"""`lease`, `used`: what mounts read from cache files without asking.

A mount finds complete files by itself, and its kernel may read them by itself. So that they leave
in the right order, it tells which it used; so that their bytes count until nobody reads them, and
so that it hears when they leave, it takes leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from fluidpy.client.protocol import EVENT_EVICTED, Message
from fluidpy.errors import FluidpyError
from fluidpy.worker.requests import Progress, Reply, malformed

if TYPE_CHECKING:
    from fluidpy.cache.store import BlockStore
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.session import Session

ROWS_AT_ONCE: Final = 50
"""Rows looked at (about 20 µs each) before the loop sees to its other work."""

ROWS_AN_EVENT: Final = 1000
"""Rows in one event."""


class Leases:
    """Who has leased what, in all stores; on the event loop."""

    def __init__(self) -> None:
        """None yet."""
        self._holders: dict[tuple[int, bytes], set[tuple[Session, int, int]]] = {}
        self._of_session: dict[Session, dict[tuple[int, int], tuple[BlockStore, bytes]]] = {}
        self._watched: set[int] = set()
        self._evicted: dict[tuple[Session, int], list[int]] = {}

    def take(self, session: Session, dataset: AttachedDataset, row: int, ino: int) -> bool:
        """Leases the cache file of a row for a client; false when it is not there any more."""
        entry = dataset.namespace.reader.get(row)
        if entry is None or session.connection.closed:
            return False
        store, key = dataset.store, dataset.object_key(entry)
        held = self._of_session.setdefault(session, {})
        self._watch(store)
        if not store.lease(key, ino):
            return False
        if (dataset.id, row) in held:
            self.give_back(session, dataset.id, row)
        held[dataset.id, row] = (store, key)
        self._holders.setdefault((id(store), key), set()).add((session, dataset.id, row))
        return True

    def give_back(self, session: Session, dataset: int, row: int) -> None:
        """Ends a lease; one that there is not is passed over."""
        held = self._of_session.get(session, {}).pop((dataset, row), None)
        if held is None:
            return
        store, key = held
        holders = self._holders[id(store), key]
        holders.discard((session, dataset, row))
        if not holders:
            del self._holders[id(store), key]
        store.end_lease(key)

    def close(self, session: Session) -> None:
        """The client is gone, and its leases with it."""
        for dataset, row in list(self._of_session.get(session, {})):
            self.give_back(session, dataset, row)
        self._of_session.pop(session, None)

    def _watch(self, store: BlockStore) -> None:
        if id(store) in self._watched:
            return
        self._watched.add(id(store))
        loop = asyncio.get_running_loop()

        def gone(key: bytes) -> None:  # in whatever thread dropped it
            if store.is_leased(key) and not loop.is_closed():
                loop.call_soon_threadsafe(self._gone, store, key)

        store.on_evict.append(gone)

    def _gone(self, store: BlockStore, key: bytes) -> None:
        for session, dataset, row in self._holders.get((id(store), key), ()):
            rows = self._evicted.setdefault((session, dataset), [])
            rows.append(row)
            if len(rows) == 1:
                asyncio.get_running_loop().call_soon(self._push, session, dataset)

    def _push(self, session: Session, dataset: int) -> None:
        rows = self._evicted.pop((session, dataset), [])
        for first in range(0, len(rows), ROWS_AN_EVENT):
            if not session.connection.closed:
                fields = {"dataset": dataset, "rows": rows[first : first + ROWS_AN_EVENT]}
                session.connection.push(EVENT_EVICTED, fields)


def _rows(request: Message, field: str) -> list[Any]:
    value = request.get(field, [])
    if not isinstance(value, list):
        raise malformed(field, "a list", value)
    return value


def _numbers(values: list[Any], field: str) -> list[int]:
    if not all(type(value) is int for value in values):
        raise malformed(field, "a list of numbers", values[:3])
    return values


def _pieces(values: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(values), ROWS_AT_ONCE):
        yield values[first : first + ROWS_AT_ONCE]


async def lease(session: Session, request: Message, _: Progress) -> Reply:
    """`lease`: begins leases (`entries`: row and inode number) and ends others (`ended`: rows).

    Answers the rows that are `gone`: they have no lease, and no event tells of them.
    """
    dataset, leases = session.dataset(request), session.worker.leases
    entries = _rows(request, "entries")
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2:
            raise malformed("entries", "a list of rows with inode numbers", entry)
        _numbers(entry, "entries")
    for row in _numbers(_rows(request, "ended"), "ended"):
        leases.give_back(session, dataset.id, row)
    gone = []
    for piece in _pieces(entries):
        for row, ino in piece:
            try:
                taken = leases.take(session, dataset, row, ino)
            except FluidpyError as error:  # its folder is gone from the catalog, or the index fails
                dataset.counters.count_error(type(error).__name__)
                taken = False
            if not taken:
                gone.append(row)
        await asyncio.sleep(0)
    return Reply({"gone": gone})


async def used(session: Session, request: Message, _: Progress) -> Reply:
    """`used`: these rows (`entries`) were read from the cache; they leave it later for that."""
    dataset = session.dataset(request)
    for piece in _pieces(_numbers(_rows(request, "entries"), "entries")):
        for row in piece:
            entry = dataset.namespace.reader.get(row)
            if entry is None:
                continue
            try:
                dataset.store.get(dataset.object_key(entry))
            except FluidpyError as error:
                dataset.counters.count_error(type(error).__name__)
        await asyncio.sleep(0)
    return Reply({})
