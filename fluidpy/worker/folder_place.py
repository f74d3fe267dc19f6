"""Where the entries of one folder lie and how their keys begin, worked out once for all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fluidpy.namespace.cache_keys import CacheKeys

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import Entry
    from fluidpy.namespace.listing_flights import Located


class FolderPlace:
    """A folder of one mount: where it lies, and the beginning of its entries' keys."""

    __slots__ = ("_keys", "located", "prefix")

    def __init__(self, located: Located) -> None:
        self.located = located
        self.prefix = located.path[: located.path.rfind("/") + 1]
        self._keys = CacheKeys(located.storage.source_id, located.storage.identity)

    def object_key(self, entry: Entry) -> bytes:
        """As `Namespace.object_key`, without asking the catalog."""
        return self._keys.key(os.fsencode(self.prefix) + entry.name, entry.version)
