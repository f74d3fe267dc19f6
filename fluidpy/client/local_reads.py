"""Files that are cached as a whole, opened from the cache without asking the worker.

The catalog says which version lies at a path while its folders are fresh, the index which file has
its bytes. Whatever either does not know is the worker's business: None here means to ask it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fluidpy.cache.cached_files import CachedFiles
from fluidpy.cache.fork_safety import SQLITE_LOCK
from fluidpy.client.catalog_view import CatalogView, Found
from fluidpy.client.local_uses import LocalUses
from fluidpy.client.protocol import Operation
from fluidpy.errors import CacheError
from fluidpy.namespace.catalog import Entry
from fluidpy.namespace.object_keys import KeySource, ObjectKeys
from fluidpy.storage.under_storage import may_be_kept

if TYPE_CHECKING:
    from fluidpy.client.attachment import Attachment
    from fluidpy.client.connection import WorkerConnection

FILE: Final = 1
"""`Kind.FILE` of the under storages."""

DIRECT_BYTES: Final = 4 * 1024 * 1024
"""Larger files are opened by the worker, which then knows that they are held: the bytes of a file
that was evicted and is still open count against the quota. Theirs would not."""

HELD_BYTES: Final = 64 * 1024 * 1024
"""Files that a process holds open without the worker's knowledge have this many bytes at most."""


class LocalFile(NamedTuple):
    """A complete cache file: whose it is, its key in the cache, and an fd, the caller's to close.

    The fd is -1 for a file without bytes.
    """

    entry: Entry
    key: bytes
    fd: int


class LocalReads:
    """What one process reads of a Dataset by itself; for any thread, and across forks."""

    def __init__(self, attachment: Attachment, connection: WorkerConnection) -> None:
        """Goes by what `attach` answered; opens nothing yet."""
        self.attachment = attachment
        self._connection = connection
        self.view = CatalogView(attachment.catalog, attachment.ttl_seconds)
        self._uses = LocalUses()
        self._files = CachedFiles(attachment.index_path)
        self._keys: ObjectKeys | None = None

    def open(self, path: str, largest: int = 1 << 62) -> LocalFile | None:
        """The file at `path`, if it has at most `largest` bytes; None: ask the worker."""
        with SQLITE_LOCK:
            found = self.view.find(path)
            if found is None:
                return None
            entry = found.entry
            if entry.kind != FILE or entry.size > largest or not may_be_kept(entry.version):
                return None
            if not entry.size:
                return LocalFile(entry, b"", -1)
            key = self._key(found)
            fd = self._files.open_complete(key, entry.size) if key else None
        return LocalFile(entry, key, fd) if key and fd is not None else None

    def _key(self, found: Found) -> bytes | None:
        entry, tag, reader = found
        try:
            if self._keys is None:
                sources = map(KeySource.from_wire, self.attachment.sources)
                self._keys = ObjectKeys(reader, sources)
            self._keys.reader = reader
            return self._keys.key_in(tag, entry.parent, entry.name, entry.version)
        except CacheError:  # gone this moment: the worker makes it anew
            return None

    def used(self, key: bytes, read_bytes: int | None = None) -> bool:
        """Notes that a file was opened, and how many bytes were read, if they were already.

        Tells the worker now and then; false when that was to be done and its connection is gone.
        """
        fields = self._uses.add(key, read_bytes)
        return fields is None or self._tell(fields)

    def tell_rest(self) -> None:
        """Tells the worker what it was not told yet."""
        fields = self._uses.rest()
        if fields is not None:
            self._tell(fields)

    def _tell(self, fields: dict[str, Any]) -> bool:
        fields["dataset"] = self.attachment.dataset
        generation = self.attachment.generation
        return self._connection.tell(Operation.READ_LOCALLY, generation, fields)

    def close(self) -> None:
        """Closes what is open."""
        self.view.close()
        self._files.close()

    def end(self) -> None:
        """Tells the worker the rest, and closes what is open: nobody reads by this any more."""
        try:
            self.tell_rest()
        finally:
            self.close()


def read_slice(fd: int, start: int, end: int) -> bytes | None:
    """The bytes `[start, end)`; None when the file does not have them, or cannot be read."""
    if start >= end:
        return b""
    try:
        data = os.pread(fd, end - start, start)
        while len(data) < end - start:  # Linux reads at most 2 GiB at once
            more = os.pread(fd, end - start - len(data), start + len(data))
            if not more:
                return None
            data += more
    except OSError:
        return None
    return data


class HeldFiles:
    """Bytes of the files that this process holds open without the worker's knowledge."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        """None yet; `limit` in bytes."""
        self._limit = limit
        self._bytes = 0
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Notes that a file is held; false when there would be too many bytes."""
        with self._lock:
            if self._bytes + size > self._limit:
                return False
            self._bytes += size
            return True

    def give_back(self, size: int) -> None:
        """Notes that a file is closed."""
        with self._lock:
            self._bytes -= size


HELD: Final = HeldFiles()
"""All of this process."""
