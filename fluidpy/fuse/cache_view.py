"""The cache as a mount sees it by itself: complete files opened without asking the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluidpy.cache.cached_files import CachedFiles
from fluidpy.client.protocol import EntryTuple
from fluidpy.errors import CacheError
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.object_keys import KeySource, ObjectKeys

_FIELDS: Final = ("index", "sources")


def how_found(attached: Mapping[str, Any]) -> dict[str, Any]:
    """Of the worker's answer to `attach`, what says how cache files are found; no secrets."""
    return {field: attached[field] for field in _FIELDS if field in attached}


class CacheView:
    """Opens complete cache files of one Dataset; in the event loop's thread."""

    def __init__(self, catalog: CatalogReader) -> None:
        """The catalog stays the caller's. Until `follow` nothing is found."""
        self._catalog = catalog
        self._keys: ObjectKeys | None = None
        self._files: CachedFiles | None = None
        self._tags: dict[int, str | None] = {}
        self._tags_at = b""

    def follow(self, found: Mapping[str, Any]) -> None:
        """Goes by what `how_found` gave: where the index is, what keys are made of.

        A worker that does not say has everything asked of itself.
        """
        self.close()
        index, sources = found.get("index"), found.get("sources")
        if isinstance(index, str) and isinstance(sources, list):
            self._keys = ObjectKeys(self._catalog, map(KeySource.from_wire, sources))
            self._files = CachedFiles(index)

    def open(self, entry: EntryTuple) -> int | None:
        """An fd (the caller's) of the file with all bytes of this version, in about 20 µs.

        None: ask the worker.
        """
        if self._files is None or self._keys is None or not entry[4]:
            return None
        try:
            tag = self._tag(entry[9])
            key = tag and self._keys.key_in(tag, entry[1], entry[2], entry[8])
        except CacheError:
            return None
        return self._files.open_complete(key, entry[4]) if isinstance(key, bytes) else None

    def _tag(self, mount: int) -> str | None:
        """The tag of a mount, asked for once while the catalog stays as it is."""
        mark = self._catalog.mark()
        if not mark or mark != self._tags_at:
            self._tags.clear()
            self._tags_at = mark
        if mount not in self._tags:
            self._tags[mount] = self._catalog.mount_tag(mount)
        return self._tags[mount]

    def close(self) -> None:
        """Ends the connection to the index."""
        if self._files is not None:
            self._files.close()
        self._files = self._keys = None
