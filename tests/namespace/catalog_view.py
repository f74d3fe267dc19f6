"""A catalog's live tree as a plain mapping, and the rules that must hold in every catalog."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.storage.under_storage import Kind


def tree(reader: CatalogReader, page: int = 2) -> dict[str, Entry]:
    """All live entries below the root by path, read as readdir does."""
    found: dict[str, Entry] = {}
    stack = [(1, "")]
    while stack:
        directory, prefix = stack.pop()
        after = b""
        while rows := reader.children(directory, after, page):
            for entry in rows:
                path = prefix + entry.name.decode()
                found[path] = entry
                if entry.kind is Kind.DIRECTORY:
                    stack.append((entry.id, path + "/"))
            after = rows[-1].name
    return found


def check(path: Path) -> None:
    """Raises when the file breaks a rule that no moment may break."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        orphans = connection.execute(
            "SELECT count(*) FROM entry AS e LEFT JOIN entry AS p ON p.id=e.parent"
            " WHERE e.id<>1 AND e.retired_at IS NULL"
            " AND (p.id IS NULL OR p.retired_at IS NOT NULL OR p.kind<>2)"
        ).fetchone()
        assert orphans == (0,)
        shared = connection.execute(
            "SELECT count(*) FROM (SELECT coalesce(ino,id) AS i FROM entry GROUP BY i"
            " HAVING count(DISTINCT parent)>1 OR count(DISTINCT name)>1)"
        ).fetchone()
        assert shared == (0,)
        stray = connection.execute(
            "SELECT count(*) FROM listing JOIN entry ON id=directory WHERE retired_at IS NOT NULL"
        ).fetchone()
        assert stray == (0,)
    finally:
        connection.close()
