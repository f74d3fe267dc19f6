"""The statements that change rows of a catalog; always inside a transaction of its owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

from fluidpy.namespace.listing_merge import Child, Known
from fluidpy.storage.under_storage import Kind

KNOWN = (
    "id,name,kind,size,mtime_ns,mode,coalesce(ino,id),version,"
    "CASE kind WHEN 3 THEN (SELECT target FROM target WHERE target.id=entry.id) END"
)
"""What a SELECT names so that its rows are `Known`s."""
_INSERT = "INSERT INTO entry VALUES (?,?,?,?,?,?,?,?,?,?,NULL)"
_INSERT_NEW = _INSERT.replace("INSERT", "INSERT OR IGNORE", 1)
_BELOW = """
WITH RECURSIVE below(id,kind) AS (SELECT id,kind FROM entry WHERE id=? UNION ALL
  SELECT entry.id,entry.kind FROM below CROSS JOIN entry
  WHERE below.kind=2 AND entry.parent=below.id AND entry.retired_at IS NULL)
SELECT id FROM below"""


class Changes(NamedTuple):
    """Rows that came, `(old, new)` rows of one path, rows that left (folders with all below)."""

    added: list[int]
    changed: list[tuple[int, int]]
    removed: list[int]

    @classmethod
    def none(cls) -> Changes:
        """No change, to be added to."""
        return cls([], [], [])

    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.added or self.changed or self.removed)

    def extend(self, other: Changes) -> None:
        """Appends another's."""
        self.added.extend(other.added)
        self.changed.extend(other.changed)
        self.removed.extend(other.removed)


class Row(NamedTuple):
    """A new row, in the order of the table's columns."""

    id: int
    parent: int
    name: bytes
    kind: int
    size: int
    mtime_ns: int
    mode: int | None
    ino: int | None
    version: bytes
    mount: int


RowValues: TypeAlias = tuple[int, int, bytes, int, int, int, int | None, int | None, bytes, int]
"""The values of a `Row`, where a million are made and names cost too much."""


def row_of(entry_id: int, parent: int, child: Child, ino: int | None, mount: int) -> Row:
    """The row of a listed child; `ino` None for a path that is new."""
    name, kind, size, mtime_ns, mode, version, _ = child
    return Row(entry_id, parent, name, kind, size, mtime_ns, mode, ino, version, mount)


def insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Adds rows whose names are free."""
    connection.executemany(_INSERT, rows)


def insert_free(connection: sqlite3.Connection, rows: Sequence[RowValues]) -> int:
    """Adds those rows whose names are free; how many that were."""
    return connection.executemany(_INSERT_NEW, rows).rowcount


def insert_targets(connection: sqlite3.Connection, targets: Iterable[tuple[int, bytes]]) -> None:
    """Says where symlinks point."""
    connection.executemany("INSERT OR REPLACE INTO target VALUES (?,?)", targets)


def retire(connection: sqlite3.Connection, ids: Iterable[int], now: float) -> None:
    """Takes rows out of the tree; they stay readable by id until purged."""
    connection.executemany(
        "UPDATE entry SET retired_at=? WHERE id=?", [(now, entry_id) for entry_id in ids]
    )


def is_live(connection: sqlite3.Connection, entry_id: int) -> bool:
    """Whether the row is part of the tree."""
    row = connection.execute(
        "SELECT 1 FROM entry WHERE id=? AND retired_at IS NULL", (entry_id,)
    ).fetchone()
    return row is not None


def below(connection: sqlite3.Connection, entry_id: int) -> list[int]:
    """The row and all live rows below it, parents first."""
    return [row[0] for row in connection.execute(_BELOW, (entry_id,))]


def retire_tree(connection: sqlite3.Connection, known: Known, now: float) -> list[int]:
    """Retires a row and, of a folder, all below; the ids."""
    if known.kind != Kind.DIRECTORY:
        retire(connection, [known.id], now)
        return [known.id]
    ids = below(connection, known.id)
    retire(connection, ids, now)
    forget_listings(connection, ids)
    return ids


def forget_listings(connection: sqlite3.Connection, directories: Iterable[int]) -> None:
    """Makes folders count as never listed."""
    values = [(directory,) for directory in directories]
    connection.executemany("DELETE FROM listing WHERE directory=?", values)
    connection.executemany("DELETE FROM omitted WHERE directory=?", values)


def set_listed(
    connection: sqlite3.Connection, directory: int, listed_at: float, omitted: dict[str, int]
) -> None:
    """Marks a folder as listed, with what was left out of it."""
    connection.execute("INSERT OR REPLACE INTO listing VALUES (?,?)", (directory, listed_at))
    connection.execute("DELETE FROM omitted WHERE directory=?", (directory,))
    connection.executemany(
        "INSERT INTO omitted VALUES (?,?,?)",
        [(directory, reason, number) for reason, number in omitted.items()],
    )


def touch(connection: sqlite3.Connection, touched: Iterable[tuple[Known, Child]]) -> None:
    """Gives directories their new time and mode; the row stays."""
    connection.executemany(
        "UPDATE entry SET mtime_ns=?,mode=? WHERE id=?",
        [(child.mtime_ns, child.mode, known.id) for known, child in touched],
    )


def known_children(connection: sqlite3.Connection, directory: int) -> Iterator[Known]:
    """All live children of a folder, by name."""
    rows = connection.execute(
        f"SELECT {KNOWN} FROM entry WHERE parent=? AND retired_at IS NULL ORDER BY name",
        (directory,),
    )
    return map(Known._make, rows)


def known_child(connection: sqlite3.Connection, directory: int, name: bytes) -> Known | None:
    """The live child of that name."""
    row = connection.execute(
        f"SELECT {KNOWN} FROM entry WHERE parent=? AND name=? AND retired_at IS NULL",
        (directory, name),
    ).fetchone()
    return Known._make(row) if row else None


def known_range(
    connection: sqlite3.Connection, directory: int, first: bytes, last: bytes, limit: int
) -> dict[bytes, Known] | None:
    """The live children with names from `first` to `last`; None when over `limit`."""
    rows = connection.execute(
        f"SELECT {KNOWN} FROM entry WHERE parent=? AND name BETWEEN ? AND ?"
        " AND retired_at IS NULL ORDER BY name LIMIT ?",
        (directory, first, last, limit + 1),
    ).fetchall()
    if len(rows) > limit:
        return None
    return {row[1]: Known._make(row) for row in rows}


def purge_step(
    connection: sqlite3.Connection, before: float, after: tuple[float, int], kept: set[int]
) -> tuple[int, tuple[float, int] | None]:
    """Deletes up to 10,000 retired rows older than `before`: (how many, where to go on)."""
    rows = connection.execute(
        "SELECT retired_at,id FROM entry WHERE retired_at IS NOT NULL AND retired_at<?"
        " AND (retired_at,id)>(?,?) ORDER BY retired_at,id LIMIT 10000",
        (before, *after),
    ).fetchall()
    doomed = [(entry_id,) for _, entry_id in rows if entry_id not in kept]
    connection.executemany("DELETE FROM entry WHERE id=?", doomed)
    connection.executemany("DELETE FROM target WHERE id=?", doomed)
    last = rows[-1] if len(rows) == 10000 else None
    return len(doomed), last


def ancestors(connection: sqlite3.Connection, ids: Iterable[int]) -> set[int]:
    """The rows and all directories above them."""
    found: set[int] = set()
    for entry_id in ids:
        while entry_id and entry_id not in found:
            found.add(entry_id)
            row = connection.execute("SELECT parent FROM entry WHERE id=?", (entry_id,)).fetchone()
            entry_id = row[0] if row else 0
    return found


def batches(values: Iterable[int], size: int) -> Iterator[list[int]]:
    """The values in lists of `size`."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch
