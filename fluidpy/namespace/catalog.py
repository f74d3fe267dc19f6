"""The reading side of a catalog: what is known of a Dataset's tree, for any process of the user.

A reader sees one consistent moment in each call, also while the worker writes. It asks no source:
what the catalog does not know is None here, and the worker's business.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fluidpy.errors import CacheError
from fluidpy.namespace.catalog_changes import CatalogChanges
from fluidpy.namespace.catalog_schema import COLUMNS, ROOT, connect_reader
from fluidpy.storage.under_storage import Kind

SYNTHETIC_LISTED_AT = float(2**53)
"""`Listing.listed_at` of a directory that no source lists (it exists by mounts' paths alone):
later than any clock, so that it is always fresh."""


def is_fresh(until: float, ttl_seconds: float, now: float) -> bool:
    """Whether a listing that counts for `ttl_seconds`, `until` then, still does (epoch seconds).

    One that was made later than now was made before a wrong clock was set back, and does not.
    """
    if now >= until or math.isinf(ttl_seconds):
        return now < until
    return not now < until - ttl_seconds < SYNTHETIC_LISTED_AT / 2


class Entry(NamedTuple):
    """One version of one path.

    `id` is the row: never reused, another version is another row. `ino` stays with the path across
    versions. `mount` is the index into the definition's mounts, -1 for a directory that exists only
    by mounts' paths. `mode` is the permission bits where the source has them. `live` is false once
    the path is gone or has another version.
    """

    id: int
    parent: int
    name: bytes
    kind: Kind
    size: int
    mtime_ns: int
    mode: int | None
    ino: int
    version: bytes
    mount: int
    live: bool


class Listing(NamedTuple):
    """When a folder was last listed (epoch seconds) and how many keys could not be shown."""

    listed_at: float
    omitted: int


class Totals(NamedTuple):
    """Files below a directory (symlinks not counted) and their bytes, as far as is known."""

    files: int
    bytes: int


_KINDS = (Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
_GET = f"SELECT {COLUMNS} FROM entry WHERE id=?"
_LOOKUP = f"SELECT {COLUMNS} FROM entry WHERE parent=? AND name=? AND retired_at IS NULL"
_FIND = (
    f"SELECT {COLUMNS},(SELECT listed_at FROM listing WHERE directory=entry.parent),"
    "(SELECT digest||path FROM mount WHERE position=entry.mount)"
    " FROM entry WHERE parent=? AND name=? AND retired_at IS NULL"
)
_CHILDREN = (
    f"SELECT {COLUMNS} FROM entry WHERE parent=? AND name>? AND retired_at IS NULL"
    " ORDER BY name LIMIT ?"
)
_FILES = (
    f"SELECT {COLUMNS} FROM entry WHERE id>? AND kind=1 AND retired_at IS NULL ORDER BY id LIMIT ?"
)
_RETIRED_FILES = (
    f"SELECT {COLUMNS},retired_at FROM entry WHERE retired_at IS NOT NULL AND kind=1"
    " AND (retired_at,id)>(?,?) ORDER BY retired_at,id LIMIT ?"
)
_LISTING = (
    "SELECT listed_at,(SELECT coalesce(sum(number),0) FROM omitted"
    " WHERE omitted.directory=listing.directory) FROM listing WHERE directory=?"
)
_TAG = "SELECT digest||path FROM mount WHERE position=?"
_TOTALS_ALL = "SELECT count(*),coalesce(sum(size),0) FROM entry WHERE kind=1 AND retired_at IS NULL"
_SIZES = (
    "SELECT count(*),coalesce(sum(size>=?),0),coalesce(sum(iif(size>=?,size,0)),0)"
    " FROM entry WHERE kind=1 AND retired_at IS NULL"
)
_UNLISTED = (
    "SELECT 1 FROM entry WHERE kind=2 AND retired_at IS NULL"
    " AND id NOT IN (SELECT directory FROM listing) LIMIT 1"
)
_TOTALS_BELOW = """
WITH RECURSIVE below(id) AS (VALUES(?) UNION ALL
  SELECT entry.id FROM below CROSS JOIN entry
  WHERE entry.parent=below.id AND entry.retired_at IS NULL AND entry.kind=2)
SELECT count(*),coalesce(sum(size),0) FROM below CROSS JOIN entry
WHERE entry.parent=below.id AND entry.retired_at IS NULL AND entry.kind=1"""


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry of a row selected as `COLUMNS`."""
    i, p, n, k, s, t, m, o, v, u, live = row
    return tuple.__new__(Entry, (i, p, n, _KINDS[k], s, t, m, o, v, u, live == 1))


class CatalogReader:
    """Reads the catalog at `path`; open as long as it is used, cheap to ask.

    Calls raise CacheError when the file is missing or damaged. Not to be carried across a fork.
    """

    def __init__(self, path: Path) -> None:
        """Opens the catalog; it must be there."""
        self.path = path
        self._text = str(path)
        self._changes: CatalogChanges | None = None
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = connect_reader(self.path)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        try:
            self._identity = self._identity_now()
            connection.execute("SELECT value FROM meta LIMIT 1").fetchone()
        except (sqlite3.Error, OSError) as error:
            connection.close()
            raise self._failed(error) from error
        return connection

    def _failed(self, error: Exception) -> CacheError:
        return CacheError(
            f"catalog {self.path} cannot be read: {error}",
            cure="The worker builds it again when it opens the Dataset: attach again.",
        )

    def _one(self, sql: str, values: tuple[Any, ...]) -> Any:
        try:
            return self._connection.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Ends the connection; later calls raise CacheError.

        After `mark` was called, no other reader of the catalog may be open in this process.
        """
        self._connection.close()
        self._forget_changes()

    def _forget_changes(self) -> None:
        changes, self._changes = self._changes, None
        if changes is not None:
            changes.close()

    def reopen(self) -> bool:
        """Follows the file if it was replaced by another; says whether it was.

        Row ids of the old file are unknown to the new one, never given to something else.
        """
        try:
            now = self._identity_now()
        except OSError as error:
            raise self._failed(error) from error
        if now == self._identity:
            return False
        old, self._connection = self._connection, self._open()
        old.close()
        self._forget_changes()
        return True

    def follow(self, path: Path) -> bool:
        """Goes on with the catalog at that path, as `reopen` does with one at the same."""
        if path == self.path:
            return self.reopen()
        before = self.path, self._text
        self.path, self._text = path, str(path)
        try:
            return self.reopen()
        except CacheError:
            self.path, self._text = before
            raise

    def mark(self) -> bytes:
        """Names the catalog's state: while it stays the same, so do the answers of all calls.

        Empty when the state is not known; to be taken before the call whose answer is kept.
        """
        if self._changes is None:
            changes = CatalogChanges(self.path)
            if self._is_replaced():  # it is, perhaps, the new one's: `reopen` comes first
                changes.close()
                return b""
            self._changes = changes
        return self._changes.mark()

    def _is_replaced(self) -> bool:
        try:
            return self._identity_now() != self._identity
        except OSError:
            return True

    def _identity_now(self) -> tuple[int, int]:
        status = os.stat(self._text)  # noqa: PTH116 - a third of the time that Path takes
        return status.st_dev, status.st_ino

    def get(self, entry_id: int) -> Entry | None:
        """The row of that id, live or retired."""
        row = self._one(_GET, (entry_id,))
        return entry_of(row) if row else None

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The live child of that name."""
        row = self._one(_LOOKUP, (parent, name))
        return entry_of(row) if row else None

    def find(self, parent: int, name: bytes) -> tuple[Entry, float, str] | None:
        """The live child of that name, when its folder was last listed (epoch seconds, minus
        infinity for never), and the tag of its mount ("" for none): all as of one moment.
        """
        row = self._one(_FIND, (parent, name))
        if row is None:
            return None
        *columns, listed_at, tag = row
        return entry_of(columns), -math.inf if listed_at is None else listed_at, tag or ""

    def children(self, directory: int, after: bytes = b"", limit: int = 1024) -> list[Entry]:
        """At most `limit` live children with names (bytes) after `after`, in the order of names."""
        new, kind_entry, kinds = tuple.__new__, Entry, _KINDS
        try:
            rows = self._connection.execute(_CHILDREN, (directory, after, limit))
            return [
                new(kind_entry, (i, p, n, kinds[k], s, t, m, o, v, u, True))
                for i, p, n, k, s, t, m, o, v, u, _ in rows
            ]
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def files(self, after: int = 0, limit: int = 1024) -> list[Entry]:
        """Live files of the whole tree, in the order of their ids, those above `after`."""
        try:
            return [entry_of(row) for row in self._connection.execute(_FILES, (after, limit))]
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def retired_files(
        self, after: tuple[float, int] = (0.0, 0), limit: int = 1024
    ) -> tuple[list[Entry], tuple[float, int]]:
        """At most `limit` versions of files that are not shown any more, and where to go on."""
        try:
            rows = self._connection.execute(_RETIRED_FILES, (*after, limit)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        end = (float(rows[-1][-1]), int(rows[-1][0])) if rows else after
        return [entry_of(row[:-1]) for row in rows], end

    def listing(self, directory: int) -> Listing | None:
        """When the folder was last listed; None when never."""
        row = self._one(_LISTING, (directory,))
        return Listing(*row) if row else None

    def omitted(self, directory: int | None = None) -> dict[str, int]:
        """Keys that cannot be shown, by reason: of one folder, or of all (None)."""
        sql = "SELECT reason,sum(number) FROM omitted WHERE directory=coalesce(?,directory)"
        try:
            rows = self._connection.execute(f"{sql} GROUP BY reason", (directory,))
            return {str(reason): int(number) for reason, number in rows}
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def path_of(self, entry_id: int) -> bytes:
        """The path of a row, live or retired, without a leading slash; the root is `b""`."""
        names: list[bytes] = []
        while entry_id != ROOT:
            row = self._one("SELECT parent,name FROM entry WHERE id=?", (entry_id,))
            if row is None:
                raise CacheError(
                    f"catalog {self.path} has no row {entry_id}",
                    cure="It was purged: look the path up again.",
                )
            entry_id = row[0]
            names.append(row[1])
        return b"/".join(reversed(names))

    def resolve(self, path: bytes) -> Entry | None:
        """The live entry at `path`, as far as the catalog knows; symlinks are not followed."""
        entry = self.get(ROOT)
        for name in path.split(b"/"):
            if not name:
                continue
            if entry is None:
                return None
            entry = self.lookup(entry.id, name)
        return entry

    def target_of(self, entry_id: int) -> bytes:
        """Where the symlink of that row points."""
        row = self._one("SELECT target FROM target WHERE id=?", (entry_id,))
        if row is None:
            raise CacheError(
                f"row {entry_id} of catalog {self.path} is no symlink",
                cure="Look the path up again.",
            )
        return bytes(row[0])

    def mount_tag(self, mount: int) -> str | None:
        """A text that names the mount of that number by its path in the Dataset, URL and options;
        None when there is none. Numbers may change with the definition, a tag does not.
        """
        row = self._one(_TAG, (mount,))
        return str(row[0]) if row and row[0] else None

    def sizes(self, large: int) -> tuple[int, int, int, bool]:
        """Live files; how many of them have `large` bytes or more; the bytes of those in all; and
        whether that is the whole tree, every folder of it having been listed.
        """
        row = self._one(_SIZES, (large, large))
        return int(row[0]), int(row[1]), int(row[2]), self._one(_UNLISTED, ()) is None

    def totals(self, directory: int = ROOT) -> Totals:
        """Files and bytes below `directory`, as far as is known."""
        if directory == ROOT:
            return Totals(*self._one(_TOTALS_ALL, ()))
        return Totals(*self._one(_TOTALS_BELOW, (directory,)))

    def is_whole(self) -> bool:
        """Whether every folder has been listed, so that `totals` are those of the sources."""
        return self.listing(ROOT) is not None and self._one(_UNLISTED, ()) is None

    def generation(self) -> int:
        """A number that grows with every change of live rows."""
        row = self._one("SELECT value FROM meta WHERE name='generation'", ())
        return int(row[0]) if row else 0
