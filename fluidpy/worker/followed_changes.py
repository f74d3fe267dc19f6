"""What changed in a Dataset's own tree, looked at in the tree of a mount that was brought along.

Loads and refreshes list the Dataset's own. The rows of the other are others, so its folders are
listed anew, and whoever listens hears what changed there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from fluidpy.errors import FluidpyError

if TYPE_CHECKING:
    from fluidpy.namespace.catalog_rows import Changes
    from fluidpy.worker.attached_dataset import AttachedDataset

_log = logging.getLogger(__name__)

MOST_ROWS: Final = 1000
"""Changed rows that are followed one folder at a time; after more, all is listed, gently."""


class FollowedChanges:
    """Those that one tree has to follow."""

    def __init__(self, tree: AttachedDataset) -> None:
        """Nothing has changed yet."""
        self._tree = tree
        self._folders: set[bytes] = set()
        self._everything = False
        self._working = False

    def add(self, own: AttachedDataset, changes: Changes) -> None:
        """These were found in the Dataset's own tree."""
        rows = [*changes.added, *(new for _, new in changes.changed), *changes.removed]
        if len(rows) > MOST_ROWS:
            self._everything = True
        else:
            reader = own.namespace.reader
            found = {entry.parent for row in rows if (entry := reader.get(row)) is not None}
            self._folders.update(map(reader.path_of, found))
        if not self._working:
            self._working = True
            self._tree.in_background(self._work())

    async def _work(self) -> None:
        try:
            while self._everything or self._folders:
                folders, self._folders = sorted(self._folders), set()
                if self._everything:
                    self._everything = False
                    await self._tree.namespace.load_metadata("", lambda _: None, gently=True)
                    continue
                for folder in folders:
                    await self._list(folder)
        except FluidpyError as error:
            _log.warning("Dataset %s: what changed in it: %s", self._tree.place, error)
        finally:
            self._working = False

    async def _list(self, folder: bytes) -> None:
        namespace = self._tree.namespace
        entry = namespace.reader.resolve(folder)
        if entry is not None and namespace.reader.listing(entry.id) is not None:
            await namespace.ensure_listed(entry.id, 0.0)
