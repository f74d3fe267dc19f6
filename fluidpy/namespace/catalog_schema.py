"""The SQLite tables of a catalog, and how its files are opened.

`entry` has a row for each version of each path. Its `id` is never used twice, not even by a
catalog that was lost and built again: the kernel and clients name files by it. `ino` is NULL where
it equals `id` (most rows), `retired_at` is NULL for a live row. `listing` has a row for each folder
whose children are known. `omitted` counts what a folder's source holds that cannot be shown.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x666C7064
"""`PRAGMA application_id` of our files ("flpd"): no other database is taken for ours."""
SCHEMA_VERSION = 1
ROOT = 1
"""The row id of the root directory of every catalog."""
BUSY_SECONDS = 10.0
"""How long a statement waits for a lock of another process, in seconds."""

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entry (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, mode INTEGER, ino INTEGER,
  version BLOB NOT NULL, mount INTEGER NOT NULL, retired_at REAL);
CREATE UNIQUE INDEX live ON entry (parent, name) WHERE retired_at IS NULL;
CREATE INDEX retired ON entry (retired_at) WHERE retired_at IS NOT NULL;
CREATE TABLE target (id INTEGER PRIMARY KEY, target BLOB NOT NULL);
CREATE TABLE listing (directory INTEGER PRIMARY KEY, listed_at REAL NOT NULL);
CREATE TABLE omitted (directory INTEGER, reason TEXT, number INTEGER NOT NULL,
  PRIMARY KEY (directory, reason)) WITHOUT ROWID;
CREATE TABLE mount (position INTEGER PRIMARY KEY, name TEXT, path TEXT, url TEXT, digest TEXT);
"""

COLUMNS = "id,parent,name,kind,size,mtime_ns,mode,coalesce(ino,id),version,mount,retired_at IS NULL"
"""What a SELECT names so that its rows are `Entry`s, in the order of its fields."""


def connect_writer(path: Path) -> sqlite3.Connection:
    """A connection that writes: WAL, so that readers never wait; transactions are explicit."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # NORMAL cannot corrupt a WAL database; a power cut may lose the last transactions, which
        # the next listing brings back.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_size_limit=16777216")
        connection.execute("PRAGMA cache_size=-8192")
        connection.execute("PRAGMA temp_store=MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only=1")
    connection.execute("PRAGMA cache_size=-8192")
    return connection
