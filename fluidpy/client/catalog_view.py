"""Folders read straight from the catalog while it is fresh: no request for each of many folders.

The worker writes the catalog and says how long a listing counts as fresh. What is not fresh, not
known, or reached through a symlink is the worker's business: None here means to ask it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fluidpy.client.protocol import RemoteEntry

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import CatalogReader

ROOT: Final = 1
"""The root directory's row in every catalog."""

DIRECTORY: Final = 2
"""`Kind.DIRECTORY` of the under storages, not imported here to keep clients light."""

_ALL: Final = 1 << 31
"""More entries than a folder has: a folder is read in one statement, so as of one moment."""

_inherited: Final[list[CatalogView]] = []
"""Views of a parent process: SQLite wants them neither used nor closed after a fork."""


class CatalogView:
    """Fresh folders of one catalog; for any thread."""

    def __init__(self, catalog: str, ttl_seconds: float) -> None:
        """Opens nothing yet; `ttl_seconds` is how long a listing counts as fresh."""
        self.catalog = catalog
        self.ttl_seconds = ttl_seconds
        self._lock = threading.Lock()
        self._reader: CatalogReader | None = None
        self._pid = os.getpid()

    @property
    def usable(self) -> bool:
        """False in a forked child."""
        return self._pid == os.getpid()

    def set_aside(self) -> None:
        """Keeps a parent's view from being closed here."""
        _inherited.append(self)

    def children(self, path: str) -> list[RemoteEntry] | None:
        """The entries of the folder at `path` by name; None when the worker must be asked."""
        from fluidpy.errors import CacheError

        names = [name for name in os.fsencode(path).split(b"/") if name]
        if any(name in (b".", b"..") for name in names):
            return None
        with self._lock:
            try:
                return self._children(names)
            except CacheError:  # gone or damaged: the worker makes it anew
                self._close()
                return None

    def _children(self, names: list[bytes]) -> list[RemoteEntry] | None:
        reader = self._open()
        folder = ROOT
        for name in names:
            entry = reader.lookup(folder, name) if self._is_fresh(reader, folder) else None
            if entry is None or entry.kind != DIRECTORY:
                return None
            folder = entry.id
        if not self._is_fresh(reader, folder):
            return None
        return [RemoteEntry(*entry) for entry in reader.children(folder, limit=_ALL)]

    def _is_fresh(self, reader: CatalogReader, folder: int) -> bool:
        listing = reader.listing(folder)
        return listing is not None and time.time() < listing.listed_at + self.ttl_seconds

    def _open(self) -> CatalogReader:
        if self._reader is None:
            from fluidpy.namespace.catalog import CatalogReader

            self._reader = CatalogReader(Path(self.catalog))
        else:
            self._reader.reopen()
        return self._reader

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        """Ends the connection; harmless when done twice."""
        with self._lock:
            self._close()
