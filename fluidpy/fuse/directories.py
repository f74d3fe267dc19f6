"""LOOKUP, OPENDIR, READDIR and READDIRPLUS: from the catalog while a folder's listing is fresh.

A folder whose listing is older than the Dataset's time to live, or that was never listed, is asked
of the worker first; the request waits without holding up others.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable
from typing import Any, Final

from fluidpy.client.protocol import EntryTuple, Message, Operation, entry_from_wire
from fluidpy.errors import FluidpyError, PathNotFoundError
from fluidpy.fuse.attributes import (
    FILE_VALID_SECONDS,
    NEGATIVE_VALID_SECONDS,
    Attributes,
    node_of_row,
    pack_negative,
    row_of_node,
)
from fluidpy.fuse.device import Device
from fluidpy.fuse.directory_blocks import (
    OFFSET_BASE,
    OFFSET_PARENT,
    OFFSET_SELF,
    DirectoryBlock,
)
from fluidpy.fuse.kernel import DIRENT, DIRENTPLUS, OPEN_OUT, READ_IN, OpenFlag
from fluidpy.fuse.known_names import KnownNames
from fluidpy.fuse.node_ids import NodeIds
from fluidpy.fuse.requests_in_flight import RequestsInFlight
from fluidpy.fuse.worker_link import Answer, WorkerLink
from fluidpy.namespace.catalog import CatalogReader, Entry, is_fresh
from fluidpy.storage.under_storage import Kind

LEAST_FRESH_SECONDS: Final = 1.0
"""How long an answer of the worker holds when no listing says more (it asked for one name)."""

_MOST_REMEMBERED: Final = 100_000
"""Folders that are remembered (their freshness, what the kernel keeps) without asking anybody."""

_CACHE_DIR: Final = OPEN_OUT.pack(0, OpenFlag.CACHE_DIR, 0)
_CACHE_DIR_KEPT: Final = OPEN_OUT.pack(0, OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE, 0)


class Freshness:
    """Until when a folder's listing counts (epoch seconds), as catalog and time to live say."""

    def __init__(
        self, catalog: CatalogReader, ttl: float, clock: Callable[[], float] = time.time
    ) -> None:
        """`ttl` in seconds; infinite: a listing counts for ever."""
        self._catalog = catalog
        self._ttl = ttl
        self._clock = clock
        self._until: dict[int, float] = {}

    def left(self, directory: int) -> float:
        """Seconds that the listing still counts; 0 when it does not, or there is none."""
        now = self._clock()
        until = self._until.get(directory, 0.0)
        if not is_fresh(until, self._ttl, now):
            listing = self._catalog.listing(directory)
            if listing is None:
                return 0.0
            until = listing.listed_at + self._ttl
            if not is_fresh(until, self._ttl, now):
                return 0.0
            self._remember(directory, until)
        return max(0.0, until - now)

    def renewed(self, directory: int) -> float:
        """The worker has just listed it; seconds that this counts."""
        self._until.pop(directory, None)
        left = self.left(directory)
        if left <= 0.0:
            left = min(self._ttl, LEAST_FRESH_SECONDS) or LEAST_FRESH_SECONDS
            self._remember(directory, self._clock() + left)
        return left

    def _remember(self, directory: int, until: float) -> None:
        if len(self._until) >= _MOST_REMEMBERED:
            self._until.clear()
        self._until[directory] = until

    def forget(self) -> None:
        """Asks the catalog again for each folder."""
        self._until.clear()


class Directories:
    """Serves the folders of one mount."""

    def __init__(
        self,
        device: Device,
        catalog: CatalogReader,
        link: WorkerLink,
        waiting: RequestsInFlight,
        attributes: Attributes,
        freshness: Freshness,
        *,
        deadline: float,
        node_ids: NodeIds | None = None,
    ) -> None:
        """`deadline` is how long a request may wait for the worker, in seconds."""
        self._device = device
        self._catalog = catalog
        self._names = KnownNames(catalog)
        self._link = link
        self._waiting = waiting
        self._attributes = attributes
        self._freshness = freshness
        self._node_ids = node_ids or NodeIds()
        self._deadline = deadline
        self._block = DirectoryBlock(attributes)
        self._kept: set[int] = set()
        self.on_file: Callable[[EntryTuple], object] = lambda _entry: None
        """Hears of files of the catalog that were looked up, after the kernel has the answer."""

    def lookup(self, unique: int, node: int, name: bytes) -> None:
        """LOOKUP."""
        parent = row_of_node(node)
        left = self._freshness.left(parent)
        if left > 0.0:
            entry = self._names.lookup(parent, name)
            self._device.reply(unique, self._entry_payload(entry, left))
            if entry is not None and entry.kind == Kind.FILE:
                self.on_file(entry)
            return
        if not self._live(parent):  # the kernel then walks the path again from the top
            self._device.reply_error(unique, errno.ESTALE)
            return
        self._waiting.begin(unique)
        fields = {"parent": parent, "name": os.fsdecode(name)}
        self._link.call(
            Operation.LOOKUP,
            fields,
            self._deadline,
            lambda answer: self._on_lookup(unique, parent, name, answer),
            survives=True,
        )

    def _live(self, row: int) -> bool:
        entry = self._catalog.get(row)
        return entry is not None and entry.live

    def _on_lookup(self, unique: int, parent: int, name: bytes, answer: Answer) -> None:
        if isinstance(answer.error, PathNotFoundError):
            self._waiting.reply(unique, pack_negative(self._negative_seconds(parent)))
        elif answer.error is not None:
            self._waiting.fail(unique, self._path(parent, name), answer.error)
        else:
            left = self._freshness.left(parent) or LEAST_FRESH_SECONDS
            entry = entry_from_wire(answer.ok["entry"])
            self._waiting.reply(unique, self._entry_payload(entry, left))

    def _negative_seconds(self, parent: int) -> float:
        return min(NEGATIVE_VALID_SECONDS, self._freshness.left(parent))

    def _entry_payload(self, entry: EntryTuple | None, left: float) -> bytes:
        if entry is None:
            return pack_negative(min(NEGATIVE_VALID_SECONDS, left))
        return self._attributes.pack_entry(
            entry, left, self.attribute_seconds(entry, left), self._node_ids.of_lookup(entry)
        )

    def attribute_seconds(self, entry: EntryTuple, left: float) -> float:
        """How long attributes hold: a version's for long, a folder's as its listing."""
        return left if entry[3] == Kind.DIRECTORY else FILE_VALID_SECONDS

    def open(self, unique: int, node: int) -> None:
        """OPENDIR: sees to it that the listing is fresh; the kernel keeps what did not change."""
        row = row_of_node(node)
        if not self._live(row):
            self._device.reply_error(unique, errno.ESTALE)
        elif self._freshness.left(row) > 0.0:
            self._device.reply(unique, self._open_payload(row))
        else:
            self._waiting.begin(unique)
            self._link.call(
                Operation.LIST,
                {"directory": row},
                self._deadline,
                lambda answer: self._on_listed(unique, row, answer),
                survives=True,
            )

    def _on_listed(self, unique: int, row: int, answer: Answer) -> None:
        if answer.error is not None:
            self._waiting.fail(unique, self._path(row), answer.error)
            return
        if answer.ok.get("changed", True):
            self._kept.discard(row)
        self._freshness.renewed(row)
        self._waiting.reply(unique, self._open_payload(row))

    def _open_payload(self, row: int) -> bytes:
        if row in self._kept:
            return _CACHE_DIR_KEPT
        if len(self._kept) >= _MOST_REMEMBERED:
            self._kept.clear()
        self._kept.add(row)
        return _CACHE_DIR

    def read(self, unique: int, node: int, body: memoryview, *, plus: bool) -> None:
        """READDIR and READDIRPLUS: a block of entries from an offset."""
        _handle, offset, size, _flags = READ_IN.unpack_from(body)
        row = row_of_node(node)
        block = self._block
        block.start(size)
        after = self._position(row, offset, plus=plus)
        if after is None:
            self._device.reply(unique, block.content)
            return
        smallest = DIRENTPLUS.size if plus else DIRENT.size
        entries = self._catalog.children(row, after, size // (smallest + 8) + 1)
        if plus:
            left = self._freshness.left(row)
            block.add_plus(entries, left, left, self._node_ids.backed)
        else:
            block.add_plain(entries)
        self._device.reply(unique, block.content)

    def _position(self, row: int, offset: int, *, plus: bool) -> bytes | None:
        """The name to go on behind, after the dots; None when there is nothing to add."""
        if offset < OFFSET_PARENT:
            entry = self._required(row)
            if offset < OFFSET_SELF and not self._block.add_dot(
                b".", entry.ino, OFFSET_SELF, plus=plus
            ):
                return None
            parent = self._required(entry.parent or row)
            if not self._block.add_dot(b"..", parent.ino, OFFSET_PARENT, plus=plus):
                return None
        if offset <= OFFSET_PARENT:
            return b""
        return self._required(offset - OFFSET_BASE).name

    def _required(self, row: int) -> Entry:
        entry = self._catalog.get(row)
        if entry is None:
            raise PathNotFoundError(
                f"the catalog no longer has row {row}", cure="Look the path up again."
            )
        return entry

    def changed(self, event: Message) -> None:
        """The worker found that names stand for something else now: the kernel has to forget."""
        entries: list[list[Any]] = event.get("entries", [])
        parents = set()
        for parent, name, _old, _new in entries:
            parents.add(parent)
            self._device.invalidate_entry(node_of_row(parent), os.fsencode(name))
        for parent in parents:
            self._kept.discard(parent)
            self._device.invalidate_node(node_of_row(parent))

    def worker_replaced(self) -> None:
        """Events may have been missed: nothing that the kernel keeps of folders is trusted."""
        kept, self._kept = self._kept, set()
        self._freshness.forget()
        for row in kept:
            self._device.invalidate_node(node_of_row(row))

    def _path(self, row: int, name: bytes = b"") -> str:
        try:
            folder = self._catalog.path_of(row)
        except FluidpyError:
            return f"(row {row})"
        return os.fsdecode(b"/".join(part for part in (folder, name) if part)) or "/"


def time_to_live(of_dataset: float | None, of_settings: float) -> float:
    """Seconds that a listing counts: the Dataset's own word before the settings'."""
    ttl = of_settings if of_dataset is None else of_dataset
    return ttl if math.isfinite(ttl) else math.inf
