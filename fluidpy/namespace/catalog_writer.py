"""The writing side of a catalog: in the worker only, one process and one thread at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from fluidpy.namespace import catalog_rows as rows
from fluidpy.namespace.catalog_file import CatalogFile
from fluidpy.namespace.catalog_rows import Changes, row_of
from fluidpy.namespace.catalog_schema import ROOT
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.namespace.listing_merge import Child, Merge, gather, merge
from fluidpy.namespace.tree import lay_out
from fluidpy.namespace.tree_composition import Composition, compose
from fluidpy.storage.under_storage import Kind, ObjectInfo

RETIRED_SECONDS = 86_400.0
"""How long a retired row is kept, in seconds: an open file of a day ago can still be named."""


class CatalogWriter(CatalogFile):
    """Keeps a Dataset's catalog in step with its sources.

    `compose` must be called before listings are applied: it tells which directories belong to
    mounts' paths, so that no listing removes them. All methods raise CacheError, CacheFullError.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens or builds the catalog at `path`; `clock` gives epoch seconds."""
        super().__init__(path, clock)
        self.composition = Composition((ROOT,), {}, frozenset({ROOT}))
        self.retirements = 0
        """Grows whenever a folder leaves the tree."""

    def compose(self, definition: DatasetDefinition) -> Changes:
        """Lays the mounts out as rows, keeping what is known of mounts that stay.

        Raises ValidationError when two mounts have one path.
        """
        nodes = lay_out(definition.mounts)
        with self.transaction() as connection:
            self.composition, changes = compose(self, connection, definition.mounts, nodes)
            if changes.any():
                self.changed()
        return changes

    def apply_listing(
        self,
        directory: int,
        mount: int,
        entries: Iterable[ObjectInfo],
        listed_at: float,
        omitted: Mapping[str, int],
    ) -> Changes:
        """Makes the whole listing of a folder the known one, in one transaction.

        `entries` are its direct children, `listed_at` is epoch seconds, `omitted` counts by reason
        the keys that the source left out. Rows that are the same are not touched. A folder that
        has left the tree in the meantime is left alone.
        """
        reasons = dict(omitted)
        children = gather(entries, reasons)
        fixed = self.composition.fixed.get(directory, {})
        for name in fixed:
            children.pop(name, None)
        with self.transaction() as connection:
            if not rows.is_live(connection, directory):
                return Changes.none()
            known = (
                row for row in rows.known_children(connection, directory) if row.name not in fixed
            )
            changes = self.carry_out(directory, mount, merge(known, children))
            rows.set_listed(connection, directory, listed_at, reasons)
        return changes

    def carry_out(self, directory: int, mount: int, plan: Merge) -> Changes:
        """Does what a merge says, inside a transaction."""
        connection, now = self.connection, self.clock()
        changes = Changes.none()
        for known in plan.removed:
            self.retirements += known.kind == Kind.DIRECTORY
            changes.removed.extend(rows.retire_tree(connection, known, now))
        rows.retire(connection, (known.id for known, _ in plan.replaced), now)
        rows.touch(connection, plan.touched)
        first = self.take_ids(len(plan.added) + len(plan.replaced))
        ids = range(first, self.next_id)
        new = [
            row_of(entry_id, directory, child, None, mount)
            for entry_id, child in zip(ids, plan.added, strict=False)
        ]
        changes.added.extend(row.id for row in new)
        for entry_id, (known, child) in zip(ids[len(new) :], plan.replaced, strict=True):
            new.append(row_of(entry_id, directory, child, known.ino, mount))
            changes.changed.append((known.id, entry_id))
        rows.insert(connection, new)
        listed: list[Child] = [*plan.added, *(child for _, child in plan.replaced)]
        rows.insert_targets(
            connection,
            (
                (row.id, child.target)
                for row, child in zip(new, listed, strict=True)
                if child.kind == Kind.SYMLINK and child.target is not None
            ),
        )
        if changes.any():
            self.changed()
        return changes

    def forget_listing(self, directory: int) -> None:
        """Makes a folder count as never listed."""
        with self.transaction() as connection:
            rows.forget_listings(connection, [directory])

    def mark_listed(
        self, directories: Iterable[int], listed_at: float, omitted: Counter[tuple[int, str]]
    ) -> None:
        """Marks many folders as listed, in steps, with what was left out of each.

        A folder that was listed later in the meantime keeps that time.
        """
        per_folder: dict[int, dict[str, int]] = {}
        for (directory, reason), number in omitted.items():
            per_folder.setdefault(directory, {})[reason] = number
        for batch in rows.batches(directories, 20_000):
            with self.transaction() as connection:
                connection.executemany(
                    "DELETE FROM omitted WHERE directory=?", [(d,) for d in batch]
                )
                connection.executemany(
                    "INSERT INTO listing VALUES (?,?) ON CONFLICT (directory)"
                    " DO UPDATE SET listed_at=max(listed_at,excluded.listed_at)",
                    [(directory, listed_at) for directory in batch],
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO omitted VALUES (?,?,?)",
                    [
                        (directory, reason, number)
                        for directory in batch
                        for reason, number in per_folder.get(directory, {}).items()
                    ],
                )

    def purge(self, held: Collection[int] = (), older_than: float = RETIRED_SECONDS) -> int:
        """Deletes rows retired more than `older_than` seconds ago that nobody holds; how many."""
        before = self.clock() - older_than
        kept = rows.ancestors(self.connection, held)
        position: tuple[float, int] | None = (-1.0, 0)
        total = 0
        while position is not None:
            with self.transaction() as connection:
                number, position = rows.purge_step(connection, before, position, kept)
            total += number
        return total
