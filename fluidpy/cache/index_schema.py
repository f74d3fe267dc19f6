"""The tables of the index, and opening it: a damaged or foreign index is set aside, not mended."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

SCHEMA_VERSION: Final = 1
_USELESS: Final = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,  # other tables
}
CHUNK_BLOCKS: Final = 256
"""Blocks a row of `chunk` describes: 1 KiB of checksums, so that a commit rewrites little."""

# `file`: one row a cache file. `segment` is the length of the object's files in bytes, 0 for one
# file; `bytes` what it takes on disk; `ino`, `ctime`, `mtime` (nanoseconds) the file as last known,
# 0 when not known; `generation` the trust generation it was written or verified in; `last_use`
# milliseconds since the epoch, of a copy less `eviction.COPY_AGE`; `blocks` (up to CHUNK_BLOCKS
# blocks) or rows of `chunk` (more): the set of present blocks, little-endian, then a native uint32
# crc32c for each block.
TABLES: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE tier(id INTEGER PRIMARY KEY, directory TEXT NOT NULL UNIQUE);
CREATE TABLE file(
  key BLOB NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, segment INTEGER NOT NULL,
  tier INTEGER NOT NULL, bytes INTEGER NOT NULL, complete INTEGER NOT NULL, ino INTEGER NOT NULL,
  ctime INTEGER NOT NULL, mtime INTEGER NOT NULL, generation INTEGER NOT NULL,
  pinned INTEGER NOT NULL, last_use INTEGER NOT NULL, blocks BLOB,
  PRIMARY KEY(key, number)) WITHOUT ROWID;
CREATE INDEX file_use ON file(tier, pinned, last_use);
CREATE TABLE chunk(
  key BLOB NOT NULL, number INTEGER NOT NULL, chunk INTEGER NOT NULL, blocks BLOB NOT NULL,
  PRIMARY KEY(key, number, chunk)) WITHOUT ROWID;
CREATE TABLE pin(key BLOB PRIMARY KEY) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the index. Raises sqlite3.DatabaseError for a file that is not one.

    Without a sync of each commit (synchronous=NORMAL): what a power cut loses is refetched, and
    what it leaves is verified before use.
    """
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-8192")
        connection.execute("PRAGMA temp_store=MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def indexed_bytes(path: Path) -> int:
    """Bytes on disk of all files that the index at `path` knows; 0 where there is no sound one.

    One scan of the index, without looking at the files; changes nothing.
    """
    if not path.is_file():
        return 0
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return 0
    try:
        row = connection.execute("SELECT sum(bytes) FROM file").fetchone()
    except sqlite3.Error:  # damaged: it is made anew, and the store begins empty
        return 0
    finally:
        connection.close()
    return int(row[0] or 0)


def open_index(path: Path, block_bytes: int) -> tuple[sqlite3.Connection, bool]:
    """The index at `path`, and whether it is new: absent, damaged, or of another make.

    Raises sqlite3.Error when it cannot be opened just now, as on a full disk: then it stays.
    """
    try:
        connection = _open_existing(path, block_bytes)
    except sqlite3.DatabaseError as error:
        if not _is_useless(error):
            raise
        connection = None
    if connection is not None:
        return connection, False
    remove_index(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.close(descriptor)
    connection = connect(path)
    connection.executescript(f"BEGIN; {TABLES} COMMIT;")
    connection.executemany(
        "INSERT INTO meta VALUES(?, ?)",
        [("schema", SCHEMA_VERSION), ("block_bytes", block_bytes), ("generation", 1)],
    )
    return connection, True


def _is_useless(error: sqlite3.Error) -> bool:
    """Whether the file is at fault: it is no index, or not what SQLite wrote."""
    # Python's own errors have no code: a text of the file is not UTF-8.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in _USELESS or code == sqlite3.SQLITE_IOERR_SHORT_READ


def _open_existing(path: Path, block_bytes: int) -> sqlite3.Connection | None:
    # One that was emptied is no database any more, and stays locked while a reader has it open.
    if path.is_symlink() or not path.is_file() or not path.stat().st_size:
        return None
    connection = connect(path)
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if meta.get("schema") == SCHEMA_VERSION and meta.get("block_bytes") == block_bytes:
            connection.execute("SELECT sum(bytes), max(last_use) FROM file").fetchone()
            return connection
    except sqlite3.DatabaseError:
        connection.close()
        raise
    connection.close()
    return None


def remove_index(path: Path) -> None:
    """Removes the index with its write-ahead log; what it described becomes orphans."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
