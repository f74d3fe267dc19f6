"""Folders and files read straight from the catalog while it is fresh: no request for each.

The worker writes the catalog and says how long a listing counts as fresh. What is not fresh, not
known, or reached through a symlink is the worker's business: None here means to ask it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fluidpy.cache.fork_safety import SQLITE_LOCK, close_before_forks
from fluidpy.client.protocol import RemoteEntry
from fluidpy.namespace.catalog import is_fresh

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import CatalogReader, Entry

ROOT: Final = 1
"""The root directory's row in every catalog."""

DIRECTORY: Final = 2
"""`Kind.DIRECTORY` of the under storages, not imported here to keep clients light."""

FOLDERS_REMEMBERED: Final = 4096
"""Folders whose row is remembered; they are forgotten all at once when there are more."""

_ALL: Final = 1 << 31
"""More entries than a folder has: a folder is read in one statement, so as of one moment."""


class _Folder(NamedTuple):
    """The row of a folder, and until when (epoch seconds) the listings on the way to it count.

    Both hold whatever happens: rows are never used again, and below a folder that is gone, nothing
    is found.
    """

    row: int
    until: float


class Found(NamedTuple):
    """A fresh entry, the tag of its mount, and the reader that has it (with `SQLITE_LOCK` only)."""

    entry: Entry
    tag: str
    reader: CatalogReader


class CatalogView:
    """Fresh folders and files of one catalog; for any thread, and across forks."""

    def __init__(self, catalog: str, ttl_seconds: float) -> None:
        """Opens nothing yet; `ttl_seconds` is how long a listing counts as fresh."""
        self.catalog = catalog
        self.ttl_seconds = ttl_seconds
        self._reader: CatalogReader | None = None
        self._folders: dict[str, _Folder] = {}
        close_before_forks(self)

    def children(self, path: str) -> list[RemoteEntry] | None:
        """The entries of the folder at `path` by name; None when the worker must be asked."""
        from fluidpy.errors import CacheError

        with SQLITE_LOCK:
            try:
                reader = self._open()
                path = path.strip("/")
                folder = self._folder(reader, path)
                if folder is None or not self._is_fresh(reader, folder):
                    self._folders.pop(path, None)
                    return None
                return [RemoteEntry(*entry) for entry in reader.children(folder.row, limit=_ALL)]
            except CacheError:  # gone or damaged: the worker makes it anew
                self.close()
                return None

    def find(self, path: str) -> Found | None:
        """The entry at `path` below the root, and its mount's tag ("": none); as `children`.

        A symlink at the end is not followed. About 10 µs where the folder is known already.
        """
        from fluidpy.errors import CacheError

        folder_path, _, name = path.strip("/").rpartition("/")
        if not name or name in (".", ".."):
            return None
        with SQLITE_LOCK:
            try:
                reader = self._open()
                folder = self._folder(reader, folder_path)
                found = folder and reader.find(folder.row, os.fsencode(name))
            except CacheError:
                self.close()
                return None
            if not folder or not found:
                self._folders.pop(folder_path, None)
                return None
        entry, listed_at, tag = found
        now = time.time()
        if now < folder.until and is_fresh(listed_at + self.ttl_seconds, self.ttl_seconds, now):
            return Found(entry, tag, reader)
        return None

    def _folder(self, reader: CatalogReader, path: str) -> _Folder | None:
        """The folder at a path without slashes around it, if all above it is fresh."""
        known = self._folders.get(path)
        if known is not None and is_fresh(known.until, self.ttl_seconds, time.time()):
            return known
        folder = _Folder(ROOT, float("inf"))
        for name in os.fsencode(path).split(b"/"):
            if not name and not path:
                break
            if name in (b"", b".", b".."):
                return None
            found = reader.find(folder.row, name)
            if found is None or found[0].kind != DIRECTORY:
                return None
            until = found[1] + self.ttl_seconds
            if not is_fresh(until, self.ttl_seconds, time.time()):
                return None
            folder = _Folder(found[0].id, min(folder.until, until))
        if len(self._folders) >= FOLDERS_REMEMBERED:
            self._folders.clear()
        self._folders[path] = folder
        return folder

    def _is_fresh(self, reader: CatalogReader, folder: _Folder) -> bool:
        listing, ttl = reader.listing(folder.row), self.ttl_seconds
        return listing is not None and is_fresh(listing.listed_at + ttl, ttl, time.time())

    def _open(self) -> CatalogReader:
        """The catalog that is there now. Raises CacheError."""
        if self._reader is None:
            from fluidpy.namespace.catalog import CatalogReader

            self._reader = CatalogReader(Path(self.catalog))
            self._folders.clear()
        elif self._reader.reopen():
            self._folders.clear()
        return self._reader

    def close(self) -> None:
        """Ends the connection; harmless when done twice. The next call makes a new one."""
        with SQLITE_LOCK:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
