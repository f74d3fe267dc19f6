"""Names that were looked up before, while the catalog stays as it is: the kernel forgets names when
memory is short, and asks again for each file of the next epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluidpy.namespace.catalog import CatalogReader, Entry

MOST_KNOWN: Final = 10240
"""Names remembered, about 900 bytes each; with each one more the oldest is forgotten. More of them
would not leave worker and server of a million files within 100 MiB."""


class KnownNames:
    """Looks names up in the catalog, those that it had before without a query."""

    def __init__(self, catalog: CatalogReader) -> None:
        """None yet; the catalog stays the caller's."""
        self._catalog = catalog
        self._mark = b""
        self._entries: OrderedDict[tuple[int, bytes], Entry] = OrderedDict()

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The live child of that name, as `CatalogReader.lookup`. Raises CacheError."""
        mark = self._catalog.mark()
        if mark != self._mark:
            self._entries.clear()
            self._mark = mark
        key = parent, name
        entry = self._entries.get(key)
        if entry is None:
            entry = self._catalog.lookup(parent, name)
            if mark and entry is not None:
                self._note((entry.parent, entry.name), entry)
        return entry

    def _note(self, key: tuple[int, bytes], entry: Entry) -> None:
        if len(self._entries) >= MOST_KNOWN:
            self._entries.popitem(last=False)
        self._entries[key] = entry
