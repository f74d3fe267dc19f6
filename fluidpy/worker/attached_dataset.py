"""One Dataset as a worker has it open: its namespace, its store, its counters, and who uses it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fluidpy.errors import FluidpyError, PathNotFoundError
from fluidpy.namespace.catalog import is_fresh
from fluidpy.namespace.namespace import Namespace
from fluidpy.storage.under_storage import Kind, is_volatile
from fluidpy.telemetry.counters import Counters
from fluidpy.worker.cached_counts import CachedCounts
from fluidpy.worker.folder_place import FolderPlace
from fluidpy.worker.recent_changes import RecentChanges

if TYPE_CHECKING:
    from pathlib import Path

    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.store import BlockStore
    from fluidpy.namespace.catalog import Entry
    from fluidpy.namespace.catalog_rows import Changes
    from fluidpy.namespace.definition import DatasetDefinition
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.worker.peer_reads import DatasetPeers

_log = logging.getLogger(__name__)

FOLDERS_REMEMBERED: Final = 4096
"""Folders whose id and freshness are remembered for opens by path, a Dataset."""

ENTRIES_REMEMBERED: Final = 16384
"""Entries remembered for opens by path, a Dataset (about 0.5 KiB each); they are forgotten with the
first change of any of them, and used while their folder is fresh."""

SETTLED_SECONDS: Final = 2.5
"""How old a listing must be before it is made again for the sake of a volatile version: local
files are settled 2 s after their change (`local_files.SETTLED_NS`)."""

SYMLINKS_FOLLOWED: Final = 40
"""As many as Linux follows in one path (`MAXSYMLINKS`, include/linux/namei.h)."""

PeersFor: TypeAlias = "Callable[[DatasetDefinition], DatasetPeers]"
Listener: TypeAlias = Callable[["AttachedDataset", "Changes"], None]


class AttachedDataset:
    """One Dataset in this worker; `id` is stable as long as the worker lives."""

    def __init__(
        self,
        number: int,
        definition: DatasetDefinition,
        namespace: Namespace,
        store: BlockStore,
        largest_window: int,
        peers_for: PeersFor | None = None,
        tree: Path | None = None,
    ) -> None:
        """For a namespace that has started; `largest_window` in bytes bounds read-ahead.

        `peers_for` knows the other workers of a pool. `tree` is the catalog of one whose rows are
        another worker's (`taken_trees`).
        """
        self.tree = tree
        self._peers_for = peers_for
        self.id = number
        self.largest_window = largest_window
        self.counters = Counters()
        self.users: set[object] = set()
        self.managers: set[object] = set()
        self.listeners: dict[object, Listener] = {}
        self.on_change: Listener = _nobody_follows
        """Hears all changes, as `listeners` do, and is no user."""
        self.recent = RecentChanges()
        self._folders: dict[str, tuple[int, float]] = {}
        self._entries: dict[str, Entry] = {}
        self._fresh_until: dict[int, float] = {}
        self._places: dict[tuple[int, int], FolderPlace] = {}
        self._refreshes: set[asyncio.Task[None]] = set()
        self._settling: set[int] = set()
        self.counts = CachedCounts(self)
        self.adopt(definition, namespace, store)

    @property
    def place(self) -> str:
        """Names it among all that the worker has open: `namespace/name`, or its tree's catalog."""
        return self.definition.key if self.tree is None else str(self.tree)

    def adopt(self, definition: DatasetDefinition, namespace: Namespace, store: BlockStore) -> None:
        """Uses this definition, namespace and store from now on."""
        self.definition = definition
        self.digest = definition.digest()
        self.bytes_digest = definition.bytes_digest()
        self.namespace = namespace
        self.store = store
        self.peers = None if self._peers_for is None else self._peers_for(definition)
        self._folders.clear()
        self._entries.clear()
        self._places.clear()
        self._fresh_until.clear()
        namespace.on_change.append(self._changed)
        self.counts.resume()

    def fresh_entry(self, path: str) -> Entry | None:
        """The live entry at `path` if that is known without asking anybody; else None."""
        folder, _, name = path.strip("/").rpartition("/")
        known = self._folders.get(folder)
        if known is None or not is_fresh(known[1], self.namespace.ttl_seconds, time.time()):
            return None
        entry = self._entries.get(path)
        if entry is None:
            entry = self.namespace.reader.lookup(known[0], os.fsencode(name))
            if entry is not None:
                if len(self._entries) >= ENTRIES_REMEMBERED:
                    self._entries.clear()
                self._entries[path] = entry
        return entry

    def _remember(self, path: str, entry: Entry) -> None:
        """Notes the folder of an entry that was just resolved, for `fresh_entry`."""
        if not entry.name or path.rstrip("/").endswith(("/..", "/.")):
            return
        listing = self.namespace.reader.listing(entry.parent)
        if listing is None:
            return
        if len(self._folders) >= FOLDERS_REMEMBERED:
            self._folders.clear()
        folder = path.strip("/").rpartition("/")[0]
        self._folders[folder] = (entry.parent, listing.listed_at + self.namespace.ttl_seconds)

    def is_fresh(self, directory: int) -> bool:
        """Whether a folder's listing is as young as the Dataset wants it."""
        now, ttl = time.time(), self.namespace.ttl_seconds
        if is_fresh(self._fresh_until.get(directory, 0.0), ttl, now):
            return True
        listing = self.namespace.reader.listing(directory)
        if listing is None:
            return False
        until = listing.listed_at + ttl
        if len(self._fresh_until) >= FOLDERS_REMEMBERED:
            self._fresh_until.clear()
        self._fresh_until[directory] = until
        return is_fresh(until, ttl, now)

    def locate(self, entry: Entry) -> Located:
        """Where an entry's bytes lie. Raises PathNotFoundError when nowhere."""
        folder = self._folder_of(entry)
        return folder.located._replace(path=folder.prefix + os.fsdecode(entry.name), entry=entry)

    def object_key(self, entry: Entry) -> bytes:
        """The key of the cache for these bytes as this identity reads them: 2 µs."""
        return self._folder_of(entry).object_key(entry)

    def _folder_of(self, entry: Entry) -> FolderPlace:
        place = self._places.get((entry.parent, entry.mount))
        if place is None:
            if len(self._places) >= FOLDERS_REMEMBERED:
                self._places.clear()
            place = FolderPlace(self.namespace.locate(entry.id))
            self._places[entry.parent, entry.mount] = place
        return place

    def cached_object(self, key: bytes, size: int) -> CachedObject:
        """The object in the store, made where there is none. Raises CacheError.

        One of which other workers own units is kept in files of a unit each, so that what is only
        a copy here can leave without the rest.
        """
        found = self.store.get(key)
        if found is None:
            unit = 0 if self.peers is None else self.peers.file_bytes(size)
            found = self.store.create(key, size, unit)
        return found

    async def resolve(self, path: str) -> Entry:
        """The entry at a path, a symlink at its end not followed; see `Namespace.resolve`."""
        entry = await self.namespace.resolve(path)
        self._remember(path, entry)
        return entry

    async def settled(self, entry: Entry) -> Entry:
        """The entry, looked at again where its version is volatile and may have settled."""
        if not is_volatile(entry.version):
            return entry
        await self.namespace.ensure_listed(entry.parent, SETTLED_SECONDS)
        return self.namespace.reader.lookup(entry.parent, entry.name) or entry

    def settle_soon(self, entry: Entry) -> None:
        """Lists the folder of a volatile entry again once it may have settled, once for all who
        ask meanwhile: what is opened after that is kept.
        """
        if not is_volatile(entry.version) or entry.parent in self._settling:
            return
        self._settling.add(entry.parent)
        self.in_background(self._settle(entry.parent))

    async def _settle(self, directory: int) -> None:
        try:
            await asyncio.sleep(SETTLED_SECONDS)
        finally:
            self._settling.discard(directory)
        await self._list_again(directory, SETTLED_SECONDS)

    async def follow(self, path: str) -> Entry:
        """The entry at a path, a symlink at its end followed inside the Dataset."""
        entry = await self.resolve(path)
        for _ in range(SYMLINKS_FOLLOWED):
            if entry.kind != Kind.SYMLINK:
                return entry
            target = os.fsdecode(self.namespace.reader.target_of(entry.id))
            if target.startswith("/"):
                raise PathNotFoundError(
                    f"{path!r} is a symlink that points out of the Dataset",
                    cure="Name the file it points to by a path in the Dataset.",
                )
            path = f"{path.rstrip('/').rpartition('/')[0]}/{target}"
            entry = await self.resolve(path)
        raise PathNotFoundError(
            f"{path!r} is a loop of symlinks", cure="Mend the links at the source."
        )

    def source_changed(self, located: Located) -> None:
        """Looks at the folder again, so that the next open sees the new version."""
        self.in_background(self._list_again(located.entry.parent, 0.0))

    def end_background(self) -> None:
        """Cancels what looks at folders again, or counts, before the namespace closes."""
        self.counts.stop()
        for task in self._refreshes:
            task.cancel()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs beside the requests until `end_background`."""
        task = asyncio.get_running_loop().create_task(work)
        self._refreshes.add(task)
        task.add_done_callback(self._refreshes.discard)

    async def _list_again(self, directory: int, max_age: float) -> None:
        try:
            await self.namespace.ensure_listed(directory, max_age)
        except FluidpyError as error:
            _log.warning("Dataset %s: a changed folder: %s", self.definition.key, error)

    def tell(self, changes: Changes) -> None:
        """Tells the listeners what another definition changed in the tree."""
        if changes.any():
            self._changed(changes)

    def _changed(self, changes: Changes) -> None:
        if changes.removed or changes.changed:
            self._folders.clear()
            self._entries.clear()
            self._places.clear()
            self._fresh_until.clear()
        self.recent.add(changes)
        self.on_change(self, changes)
        for listener in list(self.listeners.values()):
            listener(self, changes)


def _nobody_follows(dataset: AttachedDataset, changes: Changes) -> None:
    """Where no mount brought a tree along."""
