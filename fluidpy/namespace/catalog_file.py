"""One catalog file with its lock: opened, rebuilt when it cannot be used, changed in transactions.

A catalog is never the truth: a file that is damaged, foreign or of another schema is set aside
(`NAME.sqlite.aside`, the last one only) and an empty one takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fluidpy.errors import CacheError, CacheFullError, FluidpyError
from fluidpy.namespace.catalog_schema import (
    APPLICATION_ID,
    ROOT,
    SCHEMA_VERSION,
    TABLES,
    connect_writer,
)

_IDS_A_SECOND = 1 << 18
"""Row ids set apart for each second; no writer makes as many (measured: under 250,000 rows/s)."""
_EPOCH = 1735689600
"""2025-01-01T00:00:00Z, where the counting of row ids starts."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_COMPANIONS = ("-wal", "-shm")


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault: not what SQLite wrote, or shorter than that."""
    code = error.sqlite_errorcode
    return code & 0xFF in _DAMAGED or code == sqlite3.SQLITE_IOERR_SHORT_READ


def first_row_id(now: float) -> int:
    """The first row id of a catalog made at `now` (epoch seconds).

    Ids grow with time, so a catalog that was lost and is built again gives none a second time, not
    even within the second: a mount may remember the old ones, and would show other files' bytes.
    44 bits today; a node id of the mount, which is twice that, and `st_ino` keep below 2**53.
    """
    return max(ROOT + 1, int((now + 1 - _EPOCH) * _IDS_A_SECOND))


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None


class CatalogFile:
    """A catalog opened for writing by this process alone (flock on `NAME.sqlite.lock`).

    Raises CacheError when another process has it, or the directory cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens `path`, or builds it; `clock` gives epoch seconds."""
        self.path = path
        self.clock = clock
        self.rebuilt = ""
        """Why the file that was there was set aside; empty when it was not."""
        self.damaged = False
        """Whether the file turned out damaged while open; it was set aside then."""
        self._lock = self._take_lock()
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, self._lock)
            self.connection = self._open()
            opened.callback(self.connection.close)
            self.next_id = self._meta("next_id")
            self._generation = self._meta("generation")
            opened.pop_all()

    def _take_lock(self) -> int:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(
                f"catalog {self.path} cannot be opened: {error.strerror}",
                cure="Make the cache directory writable, or set FLUIDPY_CACHE_DIR to another.",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise CacheError(
                f"catalog {self.path} is in use by another worker",
                cure="Let that worker end, or give this one a cache directory of its own.",
            ) from error
        return lock

    def _open(self) -> sqlite3.Connection:
        for attempt in (1, 2):
            try:
                self._clear_what_is_no_file()
                return self._open_sound(connect_writer(self.path))
            except sqlite3.Error as error:
                if attempt == 2 or not _is_damage(error):
                    raise self.failed(error) from error
                self._set_aside(str(error))
        raise AssertionError("unreachable")

    def _open_sound(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """That connection, or one to a new file where its own cannot be used."""
        try:
            self.path.chmod(0o600)
            if why := self._unusable(connection):
                connection.close()
                self._set_aside(why)
                connection = connect_writer(self.path)
            if not _has_tables(connection):
                self._create(connection)
            self._note_open(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _clear_what_is_no_file(self) -> None:
        """Where the file is gone or empty, its place and its log's: readers of the old one, such
        as a mount, still lock it, and SQLite could not start with its log.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            for suffix in ("", *_COMPANIONS):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def _unusable(self, connection: sqlite3.Connection) -> str:
        """Why the file cannot be used; empty when it can."""
        if not _has_tables(connection):
            return ""
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            return f"it is another program's or version's (schema {application:#x}/{version})"
        boot = connection.execute("SELECT value FROM meta WHERE name='open_boot'").fetchone()
        if boot and boot[0] != _boot_id():
            # The machine went down while the file was open: the only time a kernel may have
            # lost pages that were written.
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            return "" if verdict == "ok" else str(verdict)
        return ""

    def _set_aside(self, why: str) -> None:
        if self.path.exists() and self.path.stat().st_size:
            self.rebuilt = why
            self.path.replace(f"{self.path}.aside")
        for suffix in ("", *_COMPANIONS):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        first = first_row_id(self.clock())
        connection.executemany(
            "INSERT INTO meta VALUES (?,?)", [("next_id", first), ("generation", first)]
        )
        connection.execute(
            "INSERT INTO entry VALUES (?,0,x'',2,0,0,NULL,NULL,x'',-1,NULL)", (ROOT,)
        )
        connection.execute("COMMIT")
        self.path.chmod(0o600)

    def _note_open(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('open_boot',?)", (_boot_id(),))

    def _meta(self, name: str) -> int:
        select = "SELECT value FROM meta WHERE name=?"
        try:
            row = self.connection.execute(select, (name,)).fetchone()
        except sqlite3.Error as error:
            raise self.failed(error) from error
        if row is None:
            raise CacheError(f"catalog {self.path} lacks {name!r}", cure="Remove the file.")
        return int(row[0])

    def failed(self, error: Exception) -> FluidpyError:
        """The error of the project for one of SQLite's; a damaged file is not opened again."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return CacheFullError(
                f"catalog {self.path} cannot grow: the disk is full", cure="Free some space."
            )
        if code in _DAMAGED:
            if not self.damaged:
                self._set_aside(str(error))
            self.damaged = True
            return CacheError(
                f"catalog {self.path} is damaged ({error}) and was set aside",
                cure="It is built again when the worker starts anew: fluidpy umount, then mount.",
            )
        return CacheError(
            f"catalog {self.path} cannot be written: {error}",
            cure="Check that the disk of the cache directory works and is writable.",
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, also for a process that is killed; keeps the counters with the rows."""
        before = self.next_id, self._generation
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            if (self.next_id, self._generation) != before:
                self.connection.executemany(
                    "UPDATE meta SET value=? WHERE name=?",
                    [(self.next_id, "next_id"), (self._generation, "generation")],
                )
            self.connection.execute("COMMIT")
        except BaseException as error:
            self._generation = before[1]  # ids stay used: a reader may have seen none of them
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise self.failed(error) from error
            raise

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def changed(self) -> None:
        """Notes, inside a transaction, that live rows change."""
        self._generation += 1

    def take_ids(self, number: int) -> int:
        """The first of `number` row ids never used before; inside a transaction."""
        first = self.next_id
        self.next_id += number
        return first

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the file and shortens it, as far as readers allow."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def close(self) -> None:
        """Ends cleanly and gives the lock up; may be called twice."""
        if self._lock < 0:
            return
        try:
            if not self.damaged:
                self.connection.execute("DELETE FROM meta WHERE name='open_boot'")
        except sqlite3.Error as error:
            raise self.failed(error) from error
        finally:
            self.connection.close()
            os.close(self._lock)
            self._lock = -1
