"""The cache as a mount sees it by itself: complete files opened without asking the worker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from fluidpy.cache.cached_files import CachedFiles, WholeFile
from fluidpy.client.protocol import EntryTuple
from fluidpy.errors import CacheError
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.object_keys import KeySource, ObjectKeys

MOST_PLACES: Final = 10240
"""Files whose place is remembered, about 450 bytes each: those opened last."""

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
        self._mark = b""
        self._generation = 0
        self._tags: dict[int, str | None] = {}
        self._places: OrderedDict[int, WholeFile] = OrderedDict()

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
        """An fd (the caller's) of the file with all bytes of this version, in about 20 µs; half of
        that for one that was found before.

        None: ask the worker.
        """
        if self._files is None or self._keys is None or not entry[4]:
            return None
        self.generation()
        place = self._places.pop(entry[0], None)
        fd = None if place is None else place.open()
        if fd is None:
            place = self._find(entry)
            fd = None if place is None else place.open()
        if place is not None and fd is not None and self._mark:
            self._note(entry[0], place)
        return fd

    def found_before(self, row: int) -> bool:
        """Whether the file of a row was opened since something changed."""
        return row in self._places

    def forget(self, row: int) -> None:
        """Whoever opened the file of a row keeps it: where it lies need not be remembered."""
        self._places.pop(row, None)

    def generation(self) -> int:
        """Another number when the file of a row may be another one than it was."""
        mark = self._catalog.mark()
        if not mark or mark != self._mark:  # what a row's bytes are called depends on it alone
            self._generation += 1
            self._tags.clear()
            self._places.clear()
            self._mark = mark
        return self._generation

    def _find(self, entry: EntryTuple) -> WholeFile | None:
        assert self._files is not None
        assert self._keys is not None
        try:
            tag = self._tag(entry[9])
            key = tag and self._keys.key_in(tag, entry[1], entry[2], entry[8])
        except CacheError:
            return None
        return self._files.find(key, entry[4]) if isinstance(key, bytes) else None

    def _note(self, row: int, place: WholeFile) -> None:
        if len(self._places) >= MOST_PLACES:
            self._places.popitem(last=False)
        self._places[row] = place

    def _tag(self, mount: int) -> str | None:
        """The tag of a mount, asked for once while the catalog stays as it is."""
        if mount not in self._tags:
            self._tags[mount] = self._catalog.mount_tag(mount)
        return self._tags[mount]

    def close(self) -> None:
        """Ends the connection to the index."""
        if self._files is not None:
            self._files.close()
        self._files = self._keys = None
        self._generation += 1
        self._places.clear()
