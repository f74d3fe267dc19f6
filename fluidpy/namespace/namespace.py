"""A Dataset's tree as the worker sees it: catalog first, sources where it has no answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fluidpy.errors import NotADirectoryInDatasetError, PathNotFoundError
from fluidpy.namespace.cache_keys import CacheKeys
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.namespace.catalog_rows import Changes
from fluidpy.namespace.catalog_schema import ROOT
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.namespace.listing_flights import CatalogThread, ListingFlights, Located
from fluidpy.namespace.metadata_load import MetadataProgress, MetadataReport, Rest, walk
from fluidpy.namespace.object_keys import KeySource
from fluidpy.namespace.tree import parts_of
from fluidpy.namespace.tree_composition import tag_of
from fluidpy.namespace.walk_turns import WalkTurns
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage as open_storage_of_url
from fluidpy.storage.under_storage import Kind, MountSource, UnderStorage

_log = logging.getLogger(__name__)

_LINKS = 40
"""Symlinks followed in one path, as Linux does (MAXSYMLINKS in include/linux/namei.h)."""


class Namespace:
    """One Dataset's mounts as one tree. Start it, ask it on one event loop, close it.

    `on_change` is called on that loop with each set of changes of live rows. `open_storage` makes
    a storage of a mount's source; `clock` gives epoch seconds. Calls raise PathNotFoundError,
    NotADirectoryInDatasetError, errors of the source, and CacheError when the catalog fails.
    """

    composed: Changes
    """What laying the mounts out changed in the catalog, when it was started."""
    reader: CatalogReader
    """The catalog, for this thread."""

    def __init__(
        self,
        definition: DatasetDefinition,
        settings: Settings,
        open_storage: Callable[[MountSource, Settings], UnderStorage] = open_storage_of_url,
        clock: Callable[[], float] = time.time,
        catalog_path: Path | None = None,
    ) -> None:
        """Opens nothing yet; `catalog_path` is that of another catalog than the Dataset's own."""
        self.definition = definition
        name = f"{definition.namespace}.{definition.name}.sqlite"
        self.catalog_path: Path = catalog_path or settings.catalogs_dir / name
        self.on_change: list[Callable[[Changes], None]] = []
        self._settings, self._open_storage, self._clock = settings, open_storage, clock
        ttl = definition.metadata_ttl_seconds
        self.ttl_seconds = settings.metadata_ttl_seconds if ttl is None else ttl
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        self._storages: list[UnderStorage] = []
        self._turns = WalkTurns()
        self._started = False

    async def start(self) -> None:
        """Opens the sources and the catalog, and lays the mounts out in it. Lists nothing."""
        try:
            for mount in self.definition.mounts:
                self._storages.append(self._open_storage(mount.source, self._settings))
            loop = asyncio.get_running_loop()
            writer = await loop.run_in_executor(
                self._executor, CatalogWriter, self.catalog_path, self._clock
            )
        except BaseException:
            await self._close_storages()
            self._executor.shutdown(wait=False)
            raise
        if writer.rebuilt:
            _log.warning("catalog %s was built again: %s", self.catalog_path, writer.rebuilt)
        self._thread = CatalogThread(writer, self._executor)
        self._started = True
        try:
            self.composed = await self._thread.run(writer.compose, self.definition)
            self.reader = CatalogReader(self.catalog_path)
        except BaseException:
            await self._thread.run(writer.close)
            self._started = False
            await self._close_storages()
            self._executor.shutdown(wait=False)
            raise
        self._flights = ListingFlights(
            self._thread, self.reader, self.locate, self._notify, self.ttl_seconds, self._clock
        )

    async def close(self) -> None:
        """Ends listings under way and closes all; may be called twice."""
        if not self._started:
            return
        self._started = False
        await self._flights.close()
        self.reader.close()
        try:
            await self._thread.run(self._thread.writer.close)
        finally:
            self._executor.shutdown(wait=False)
            await self._close_storages()

    async def _close_storages(self) -> None:
        storages, self._storages = self._storages, []
        for storage in storages:
            await storage.close()

    @property
    def listing_failures(self) -> int:
        """Listings that a source could not give, so that the folder was served as it was."""
        return self._flights.failures

    def _notify(self, changes: Changes) -> None:
        if changes.any():
            for callback in self.on_change:
                callback(changes)

    async def lookup(self, parent: int, name: bytes) -> Entry:
        """The child of that name; the folder is listed first unless it is fresh."""
        await self._flights.ensure(parent)
        entry = self.reader.lookup(parent, name)
        if entry is None:
            raise PathNotFoundError(
                f"{self._text(parent, name)} does not exist",
                cure="Look at the folder; a refresh shows what is new at the source.",
            )
        return entry

    async def ensure_listed(self, directory: int, max_age: float | None = None) -> Changes:
        """Lists the folder unless that was done less than `max_age` seconds ago (None: the TTL).

        A folder that was listed before is served as it was when its source is down.
        """
        return await self._flights.ensure(directory, max_age)

    async def resolve(self, path: str) -> Entry:
        """The entry at `path`; folders on the way are listed unless fresh.

        Symlinks on the way are followed inside the Dataset, one at the end is the answer.
        """
        return await self._resolve(path, {"links": _LINKS})

    async def _resolve(self, path: str, budget: dict[str, int]) -> Entry:
        above: list[Entry] = []
        entry = await self._root()
        names = [name for name in os.fsencode(path).split(b"/") if name not in (b"", b".")]
        for position, name in enumerate(names):
            if entry.kind is Kind.SYMLINK:
                entry = await self._follow(above[-1], entry, budget)
            if entry.kind is not Kind.DIRECTORY:
                shown = "/".join(os.fsdecode(part) for part in names[:position])
                raise NotADirectoryInDatasetError(
                    f"/{shown} is not a folder", cure="Open it as a file, or correct the path."
                )
            if name == b"..":
                if not above:
                    raise PathNotFoundError(
                        f"{path} leads out of the Dataset", cure="Give a path inside the Dataset."
                    )
                entry = above.pop()
                continue
            above.append(entry)
            entry = await self.lookup(entry.id, name)
        return entry

    async def _follow(self, folder: Entry, link: Entry, budget: dict[str, int]) -> Entry:
        target = self.reader.target_of(link.id)
        budget["links"] -= 1
        if budget["links"] < 0:
            raise PathNotFoundError(
                f"{self._text(link.id)} is a loop of symlinks", cure="Mend the links at the source."
            )
        if target.startswith(b"/"):
            raise PathNotFoundError(
                f"{self._text(link.id)} points out of the Dataset",
                cure="Name the file it points to by a path in the Dataset.",
            )
        path = os.fsdecode(self.reader.path_of(folder.id) + b"/" + target)
        entry = await self._resolve(path, budget)
        if entry.kind is Kind.SYMLINK:
            parent = self.reader.get(entry.parent)
            assert parent is not None
            return await self._follow(parent, entry, budget)
        return entry

    async def _root(self) -> Entry:
        entry = self.reader.get(ROOT)
        if entry is None:
            raise PathNotFoundError(f"catalog {self.catalog_path} has no root", cure="Remount.")
        return entry

    async def refresh(self, path: str, recursive: bool) -> Changes:
        """Asks the source again about a file (its folder is listed), a folder, or all below it.

        Raises the source's error when it cannot be asked; the tree then stays as it was.
        """
        total = Changes.none()
        parent, _, name = path.strip("/").rpartition("/")
        if name:
            try:
                folder = await self.resolve(parent)
            except (PathNotFoundError, NotADirectoryInDatasetError):
                # What stands on the way may be as new as the path itself.
                total.extend(await self.refresh(parent, False))
                folder = await self.resolve(parent)
            total.extend(await self._flights.refresh(folder.id))
        entry = await self.resolve(path)
        if entry.kind is not Kind.DIRECTORY:
            return total
        if not recursive:
            total.extend(await self._flights.refresh(entry.id))
            return total

        def on_changes(changes: Changes) -> None:
            total.extend(changes)
            self._notify(changes)

        await self._turns.at_once(
            self.reader.path_of(entry.id),
            lambda: walk(
                self._thread, self._places(entry), self._clock, on_changes, lambda _: None
            ),
        )
        return total

    async def load_metadata(
        self, path: str, progress: Callable[[MetadataProgress], None], *, gently: bool = False
    ) -> MetadataReport:
        """Brings all below `path` into the catalog, by as few requests as the sources allow.

        Loads wait for each other. Files that are gone are removed only once a whole walk has ended.
        A gentle one rests after each page for as long as that took. It stands still for any other
        one; one of a folder above takes its place, and it begins again after that.
        """
        entry = await self.resolve(path)
        if entry.kind is not Kind.DIRECTORY:
            await self.refresh(path, False)
            entry = await self.resolve(path)
            return MetadataReport(1, entry.size)

        def walked(rest: Rest | None = None) -> Awaitable[MetadataReport]:
            places = self._places(entry)
            return walk(self._thread, places, self._clock, self._notify, progress, rest)

        folder = self.reader.path_of(entry.id)
        if gently:
            return await self._turns.gently(folder, walked)
        return await self._turns.at_once(folder, walked)

    def _places(self, entry: Entry) -> list[Located]:
        """The folder itself where a source has it, and the roots of all mounts below."""
        own = self.reader.path_of(entry.id)
        prefix = own + b"/" if own else b""
        tops = [
            top
            for top in self._thread.writer.composition.tops
            if top != entry.id and self.reader.path_of(top).startswith(prefix)
        ]
        first = [entry.id] if entry.mount >= 0 else []
        return [self.locate(row) for row in (*first, *tops)]

    def locate(self, entry_id: int) -> Located:
        """Where the entry, live or retired, lies. Raises PathNotFoundError when nowhere."""
        entry = self.reader.get(entry_id)
        if entry is None or not 0 <= entry.mount < len(self._storages):
            raise PathNotFoundError(
                f"entry number {entry_id} lies in no source", cure="Look its path up again."
            )
        mount = self.definition.mounts[entry.mount]
        names = self.reader.path_of(entry_id).split(b"/")
        path = os.fsdecode(b"/".join(names[len(parts_of(mount.path)) :]))
        return Located(self._storages[entry.mount], mount, path, entry)

    def mount_named(self, name: str) -> tuple[MountDefinition, UnderStorage]:
        """The mount of that name, and what it is read through. Raises PathNotFoundError."""
        for mount, storage in zip(self.definition.mounts, self._storages, strict=False):
            if mount.name == name:
                return mount, storage
        raise PathNotFoundError(
            f"Dataset {self.definition.key} has no mount {name!r}", cure="Look at its mounts."
        )

    def object_key(self, entry: Entry) -> bytes:
        """16 bytes that name these bytes as this identity reads them: the key of the cache."""
        located = self.locate(entry.id)
        keys = CacheKeys(located.storage.source_id, located.storage.identity)
        return keys.key(os.fsencode(located.path), entry.version)

    def key_sources(self) -> list[KeySource]:
        """What other processes need to know the keys of the cache themselves; no secrets."""
        return [
            KeySource(tag_of(mount), mount.path, storage.source_id, storage.identity)
            for mount, storage in zip(self.definition.mounts, self._storages, strict=True)
        ]

    async def purge(self, held: Collection[int] = ()) -> int:
        """Deletes versions retired over a day ago whose rows nobody holds; how many."""
        if not self._started:
            return 0
        return await self._thread.run(self._thread.writer.purge, held)

    def _text(self, entry_id: int, name: bytes = b"") -> str:
        path = self.reader.path_of(entry_id)
        return "/" + os.fsdecode(b"/".join(part for part in (path, name) if part))
