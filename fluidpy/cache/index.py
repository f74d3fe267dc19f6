"""The index: which blocks of which cache files are there, in SQLite, written in batches.

Its owner (the store) holds its lock around every call. Rows handed over are in the file only after
`apply`; losing the tail costs a refetch, since a file or block the index does not know is not used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from fluidpy.cache.eviction import COPY_AGE, Candidate, FileId, real_use
from fluidpy.cache.index_schema import open_index, remove_index
from fluidpy.errors import CacheError

_LOG = logging.getLogger(__name__)
MANY_TOUCHES: Final = 2048
"""Times of use that wait to be written at most: some 10 ms of writing."""

_UPSERT: Final = f"INSERT OR REPLACE INTO file VALUES({','.join('?' * 14)})"
_TOUCH: Final = (
    f"UPDATE file SET last_use=? - CASE WHEN last_use < 0 THEN {COPY_AGE} ELSE 0 END "
    "WHERE key=? AND number=?"
)
_COLUMNS: Final = (
    "key, number, size, segment, tier, bytes, complete, ino, ctime, mtime, generation, pinned, "
    "last_use, blocks"
)


_AT_ONCE: Final = 64
"""Keys of one query; fewer are filled up, so that there is one statement to prepare."""
_WHOLE_ROWS: Final = (
    "SELECT key, size, tier, ino, ctime, mtime, generation, blocks "
    f"FROM file WHERE key IN ({','.join('?' * _AT_ONCE)}) "
    "AND number=0 AND segment=0 AND complete=1"
)

_LOG_BYTES: Final = 64 * 1024 * 1024
"""The log is emptied in a thread every few seconds (`BlockStore.maintain`); only one that grew to
this is emptied at once, which syncs and so stops everything for a moment."""
_SMALLEST_LOG_BYTES: Final = 256 * 1024


def log_limit(descriptor: int) -> int:
    """How far the log may grow before it is emptied, in bytes: little on a small disk.

    `descriptor` is one of a file on that disk.
    """
    facts = os.fstatvfs(descriptor)
    return min(_LOG_BYTES, max(_SMALLEST_LOG_BYTES, facts.f_blocks * facts.f_frsize // 64))


class FileRow(NamedTuple):
    """A row of `file`; the fields are explained with the tables."""

    key: bytes
    number: int
    size: int
    segment: int
    tier: int
    disk_bytes: int
    complete: int
    ino: int
    ctime: int
    mtime: int
    generation: int
    pinned: int
    last_use: int
    blocks: bytes | None

    @property
    def is_copy(self) -> bool:
        """Whether another worker keeps the same."""
        return self.last_use < 0

    @property
    def used(self) -> int:
        """When the file was last used, in milliseconds since the epoch."""
        return real_use(self.last_use)


class WholeRow(NamedTuple):
    """What a row of `file` says of an object that is complete in one file."""

    key: bytes
    size: int
    tier: int
    ino: int
    ctime: int
    mtime: int
    generation: int
    blocks: bytes | None


class ChunkRow(NamedTuple):
    """A row of `chunk`: blocks `chunk * CHUNK_BLOCKS` and on of one file."""

    key: bytes
    number: int
    chunk: int
    blocks: bytes


def pack_blocks(mask: int, checksums: array[int]) -> bytes:
    """Presence and checksums of up to CHUNK_BLOCKS blocks as one value."""
    return mask.to_bytes((len(checksums) + 7) // 8, "little") + checksums.tobytes()


def unpack_blocks(packed: bytes, count: int) -> tuple[int, array[int]]:
    """What `pack_blocks` packed for `count` blocks; damaged values count as nothing present."""
    head = (count + 7) // 8
    checksums = array("I")
    if len(packed) != head + count * checksums.itemsize:
        return 0, array("I", bytes(count * checksums.itemsize))
    checksums.frombytes(packed[head:])
    return int.from_bytes(packed[:head], "little"), checksums


class Index:
    """The index file of a store. Every failure is a CacheError that says how to start afresh."""

    def __init__(self, path: Path, block_bytes: int) -> None:
        self.path = path
        self.damaged = False
        self.unclean = True
        try:
            self._connection, self.is_new = open_index(path, block_bytes)
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"cache index {path} cannot be opened: {error}",
                cure="Free space on its disk or mend it. Where that does not help, remove the "
                "index: the cache then begins empty.",
            ) from error
        self._touches: dict[FileId, int] = {}
        self._pin_count = self._one("SELECT count(*) FROM pin", ())

    def _failure(self, error: Exception) -> CacheError:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            self.damaged = True
        return CacheError(
            f"cache index {self.path} failed: {error}",
            cure="Check the disk's space and health; the index is rebuilt when the worker starts.",
        )

    def _one(self, statement: str, values: Sequence[Any]) -> int:
        row = self._fetch(statement, values)[0]
        return int(row[0] or 0)

    def _fetch(self, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _write(self, batches: Iterable[tuple[str, Iterable[Any]]]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in batches:
                    connection.executemany(statement, rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def get_meta(self, name: str) -> Any:
        """A value of `meta`, None when there is none."""
        rows = self._fetch("SELECT value FROM meta WHERE name=?", (name,))
        return rows[0][0] if rows else None

    def set_meta(self, name: str, value: str | int | None) -> None:
        """Sets a value of `meta` at once."""
        self._write([("INSERT OR REPLACE INTO meta VALUES(?, ?)", [(name, value)])])

    def register_tiers(self, directories: Sequence[str]) -> list[int]:
        """The ids of these directories; rows of files in any other directory are forgotten."""
        known = {directory: number for number, directory in self._fetch("SELECT * FROM tier", ())}
        self._write([("INSERT OR IGNORE INTO tier(directory) VALUES(?)",
                      [(d,) for d in directories])])  # fmt: skip
        ids = {directory: number for number, directory in self._fetch("SELECT * FROM tier", ())}
        gone = [(number,) for directory, number in known.items() if directory not in directories]
        if gone:
            self._write([
                ("DELETE FROM chunk WHERE (key, number) IN "
                 "(SELECT key, number FROM file WHERE tier=?)", gone),
                ("DELETE FROM file WHERE tier=?", gone),
                ("DELETE FROM tier WHERE id=?", gone),
            ])  # fmt: skip
        return [ids[directory] for directory in directories]

    def totals(self) -> dict[int, int]:
        """Bytes on disk by tier id."""
        return dict(self._fetch("SELECT tier, sum(bytes) FROM file GROUP BY tier", ()))

    def rows_of(self, key: bytes) -> list[FileRow]:
        """The rows of an object's files, by number."""
        found = self._fetch(f"SELECT {_COLUMNS} FROM file WHERE key=? ORDER BY number", (key,))
        return [FileRow._make(row) for row in found]

    def whole_rows(self, keys: Sequence[bytes]) -> dict[bytes, WholeRow]:
        """By key, what is known of those objects that are complete in one file."""
        found: dict[bytes, WholeRow] = {}
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            filled = [*some, *[some[0]] * (_AT_ONCE - len(some))]
            for row in self._fetch(_WHOLE_ROWS, filled):
                found[row[0]] = WholeRow._make(row)
        return found

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` (some hundred at most) that have a row."""
        marks = ",".join("?" * len(keys))
        return {key for (key,) in self._fetch(f"SELECT key FROM file WHERE key IN ({marks})", keys)}

    def chunks_of(self, file: FileId) -> list[ChunkRow]:
        """The chunk rows of a file with more than CHUNK_BLOCKS blocks."""
        found = self._fetch("SELECT * FROM chunk WHERE key=? AND number=?", file)
        return [ChunkRow._make(row) for row in found]

    def page(
        self, after: FileId, limit: int, *, below: bytes | None = None, complete_only: bool = False
    ) -> list[FileRow]:
        """Up to `limit` rows after `after`, in order of key and number, keys less than `below`."""
        where = "(key, number) > (?, ?)"
        values: list[Any] = list(after)
        if below is not None:
            where += " AND key < ?"
            values.append(below)
        if complete_only:
            where += " AND complete=1"
        found = self._fetch(
            f"SELECT {_COLUMNS} FROM file WHERE {where} ORDER BY key, number LIMIT ?",
            (*values, limit),
        )
        return [FileRow._make(row) for row in found]

    def touch(self, file: FileId, last_use: int) -> None:
        """Queues a time of last use; `apply_touches` writes it. A copy stays one."""
        self._touches[file] = last_use

    @property
    def queued_touches(self) -> int:
        """Times of last use not written yet."""
        return len(self._touches)

    def apply_touches(self) -> None:
        """Writes the queued times of last use."""
        if self._touches:
            rows = [(when, *file) for file, when in self._touches.items()]
            self._write([(_TOUCH, rows)])
            self._touches.clear()

    def apply_many_touches(self) -> None:
        """Writes them once many are queued; what fails stays queued, and upkeep says why."""
        if self.queued_touches > MANY_TOUCHES:
            with contextlib.suppress(CacheError):
                self.apply_touches()

    def oldest(self, tier: int, limit: int, copies: bool) -> list[Candidate]:
        """The files of a tier used longest ago that are not pinned, as far as written."""
        found = self._fetch(
            "SELECT key, number, last_use FROM file WHERE tier=? AND pinned=0 "
            f"AND last_use {'<' if copies else '>='} 0 ORDER BY last_use LIMIT ?",
            (tier, limit),
        )
        return [Candidate(FileId(key, number), real_use(used)) for key, number, used in found]

    def apply(
        self, removed: Iterable[FileId], files: Iterable[FileRow], chunks: Iterable[ChunkRow]
    ) -> None:
        """Removes rows, then writes rows, in one transaction."""
        gone = list(removed)
        self._write([
            ("DELETE FROM file WHERE key=? AND number=?", gone),
            ("DELETE FROM chunk WHERE key=? AND number=?", gone),
            (_UPSERT, files),
            ("INSERT OR REPLACE INTO chunk VALUES(?, ?, ?, ?)", chunks),
        ])  # fmt: skip

    def is_pinned(self, key: bytes) -> bool:
        """Whether an object is pinned."""
        if not self._pin_count:
            return False
        return bool(self._fetch("SELECT 1 FROM pin WHERE key=?", (key,)))

    def set_pinned(self, key: bytes, on: bool) -> None:
        """Pins or unpins an object, present or not, at once."""
        change = "INSERT OR IGNORE INTO pin VALUES(?)" if on else "DELETE FROM pin WHERE key=?"
        mark = "UPDATE file SET pinned=? WHERE key=?"
        self._write([(change, [(key,)]), (mark, [(int(on), key)])])
        self._pin_count = self._one("SELECT count(*) FROM pin", ())

    def checkpoint(self) -> None:
        """Moves the log into the index file; syncs, so call it from a thread.

        On a connection of its own: the owner goes on reading and writing meanwhile.
        """
        try:
            with_own = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
            try:
                with_own.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                with_own.close()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def log_bytes(self) -> int:
        """Size of the write-ahead log, in bytes."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Closes the index; a damaged one is removed, so that the next start begins afresh."""
        try:
            if not self.damaged:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:  # nothing is lost: the log is read at the next start
            _LOG.warning("the log of %s stays: %s", self.path, error)
        finally:
            self._connection.close()
            if self.damaged:
                remove_index(self.path)

    def abort(self) -> None:
        """Closes the index without writing anything."""
        self._connection.close()
