"""A Dataset as a client sees it: entries, folders, open files and ranges, asked of the worker.

A session holds the Dataset's definition, so that it can attach again after the worker was replaced
or the process forked. All calls may come from any thread. Nothing is cached here: what the catalog
and the index say is read from them (`local_reads`), everything else is asked of the worker.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fluidpy.cache.fork_safety import SQLITE_LOCK
from fluidpy.client import protocol
from fluidpy.client.attachment import NO_HANDLE, Attachment, DefinitionSource, Opened
from fluidpy.client.connection import LostConnectionError, WorkerConnection, connection_for
from fluidpy.client.managed import ManagedDataset
from fluidpy.client.protocol import Message, Operation, RemoteEntry
from fluidpy.client.start import check_cache_directory, connect
from fluidpy.client.symlinks import SYMLINK, follow, read_link_of
from fluidpy.client.versions import gone, version_of
from fluidpy.errors import (
    DatasetNotFoundError,
    FluidpyError,
    WorkerTimeoutError,
)
from fluidpy.settings import Settings

if TYPE_CHECKING:
    from fluidpy.client.local_reads import LocalReads

FILE: Final = 1
"""`Kind.FILE` of the under storages, not imported here to keep clients light."""
DIRECTORY: Final = 2
"""`Kind.DIRECTORY`."""

_GRACE_SECONDS: Final = 5.0
"""A client waits this much longer than the worker's own deadline, so that the worker's error, which
says more, comes first."""

_RETRY_SECONDS: Final = (0.0, 0.02, 0.1, 0.5)
"""Pauses before asking again after the worker was lost; the last one repeats until the deadline."""


_Result = TypeVar("_Result")

_TELL_SECONDS: Final = 1.0
"""How long a reader may be kept from going on by a new worker that is to hear of his reads."""


class DatasetSession:
    """Lookups, listings and reads of one Dataset, through this user's worker."""

    def __init__(self, definition: DefinitionSource, settings: Settings) -> None:
        """Costs nothing: the worker is asked, and started, by the first call that needs it."""
        self.settings = settings
        self.connection: WorkerConnection = connection_for(settings)
        self._source = definition
        self._attachment: Attachment | None = None
        self._local: LocalReads | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._managed_by: Path | None = None

    @property
    def block_bytes(self) -> int:
        """Size of the worker's cached blocks in bytes."""
        return self.connection.block_bytes

    @property
    def deadline(self) -> float:
        """How long one call may take in seconds, whatever it has to do again."""
        return self.settings.source_deadline_seconds + _GRACE_SECONDS

    def limit(self) -> float:
        """When a call that begins now must have ended, as `time.monotonic` tells time."""
        return time.monotonic() + self.deadline

    def attachment(self, limit: float | None = None) -> Attachment:
        """The Dataset in the present connection; attaches when there is none, until `limit`.

        Raises DatasetNotFoundError, ValidationError, WorkerTimeoutError and the worker's errors.
        """
        attachment = self._attachment
        if attachment is not None and self._is_current(attachment):
            return attachment
        self._renew_lock_after_fork()
        limit = self.limit() if limit is None else limit
        if not self._lock.acquire(timeout=_left(limit)):
            raise WorkerTimeoutError(
                "another thread is still attaching the Dataset",
                cure=f"Look at {self.settings.worker_directory / 'worker.log'}.",
            )
        try:
            attachment = self._attachment
            if attachment is None or not self._is_current(attachment):
                attachment = self._attachment = self._attach(limit)
            return attachment
        finally:
            self._lock.release()

    def _is_current(self, attachment: Attachment) -> bool:
        return attachment.generation == self.connection.generation and self.connection.connected

    def _renew_lock_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._pid = os.getpid()

    def _attach(self, limit: float) -> Attachment:
        """A name that was known is one that a mount attaches: a new worker gets to know it soon."""
        known = self._attachment is not None or callable(self._source)
        source = self._source() if callable(self._source) else self._source
        self._source = source
        if isinstance(source, ManagedDataset):
            self._move(source, limit)
            known, source = True, source.key
        if not isinstance(source, str):
            return self._attach_once({"definition": source.to_wire()}, limit)
        while True:
            try:
                return self._attach_once({"name": source}, limit)
            except DatasetNotFoundError as error:
                if not known:
                    raise
                if time.monotonic() + _RETRY_SECONDS[-1] > limit:
                    raise DatasetNotFoundError(
                        f"Dataset {source} was mounted, and its mount does not attach it again",
                        cure="Mount it again (`fluidpy mount`), or give its YAML file.",
                    ) from error
                time.sleep(_RETRY_SECONDS[-2])

    def _move(self, dataset: ManagedDataset, limit: float) -> None:
        """To the worker that the control plane names: the one of before, as long as it serves."""
        before = self._managed_by
        settings = dataset.place(deadline=_left(limit), member_directory=before)
        if before != settings.runtime_dir:
            self._managed_by = settings.runtime_dir
            self.settings = settings
            self.connection = connection_for(settings)

    def _attach_once(self, how: dict[str, Any], limit: float) -> Attachment:
        start = min(self.settings.worker_start_seconds, _left(limit))
        generation = self.connection.connect(deadline=start)
        if self._attachment is None:  # a reader goes on with whatever worker came after the first
            check_cache_directory(self.connection.greeting, self.settings)
        ok, fds = self.connection.call(
            Operation.ATTACH, deadline=_left(limit), generation=generation, **how
        )
        protocol.close_all(fds)
        ttl = ok.get("ttl_seconds", 0.0)
        ttl = math.inf if ttl is None else float(ttl)
        index, sources = ok.get("index", ""), ok.get("sources", [])
        return Attachment(generation, ok["dataset"], ok["key"], ok["catalog"], ttl, index, sources)

    def local(self) -> LocalReads:
        """What is read without the worker, by what `attach` answered to this process last.

        That holds although the worker may have ended meanwhile. Raises as `attachment` does.
        """
        attachment = self._attachment
        if attachment is None or self._pid != os.getpid():
            attachment = self.insist("attach", self.attachment)
        local = self._local
        if local is not None and local.attachment is attachment:
            return local
        from fluidpy.client.local_reads import LocalReads

        with SQLITE_LOCK:
            stale, local = self._local, LocalReads(attachment, self.connection)
            self._local = local
            if stale is not None:
                stale.close()
        weakref.finalize(self, local.end)
        return local

    def _used(self, local: LocalReads, key: bytes, read_bytes: int | None = None) -> None:
        """Notes a use of a cache file; now and then tells the worker, if one listens."""
        if local.used(key, read_bytes):
            return
        with suppress(FluidpyError):  # the bytes are there; that they were read is told later
            if (listening := connect(self.settings)) is not None:  # another worker by now
                listening.close()
                self.attachment(time.monotonic() + _TELL_SECONDS)

    def _call(
        self,
        operation: str,
        limit: float | None = None,
        fields_for: Callable[[Attachment], dict[str, Any]] = lambda _: {},
        **fields: Any,
    ) -> tuple[Attachment, Message, list[int]]:
        def once(limit: float) -> tuple[Attachment, Message, list[int]]:
            attachment = self.attachment(limit)
            ok, fds = self.connection.call(
                operation,
                deadline=_left(limit),
                generation=attachment.generation,
                dataset=attachment.dataset,
                **fields,
                **fields_for(attachment),
            )
            return attachment, ok, fds

        return self.insist(operation, once, limit)

    def insist(
        self, operation: str, once: Callable[[float], _Result], limit: float | None = None
    ) -> _Result:
        """Calls `once(limit)` again as long as the worker gets lost and time is left.

        `limit` (default: the whole deadline from now) is when all of it must have ended. Raises
        WorkerTimeoutError after that, and whatever else `once` raises.
        """
        limit = self.limit() if limit is None else limit
        attempt = 0
        while True:
            try:
                return once(limit)
            except LostConnectionError as error:
                pause = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                if time.monotonic() + pause > limit:
                    raise WorkerTimeoutError(
                        f"the worker was lost again and again while asked to `{operation}`",
                        cure=f"Look at {self.settings.worker_directory / 'worker.log'}.",
                    ) from error
                time.sleep(pause)
                attempt += 1

    def entry(self, path: str, *, refresh: bool = False) -> RemoteEntry:
        """What lies at a path. Raises PathNotFoundError, NotADirectoryInDatasetError, SourceError.

        `refresh` asks the source even when the catalog is fresh. Symlinks are followed, so that
        the entry's name may be another one.
        """
        if not refresh and (found := self.local().view.find(path)) and found.entry.kind != SYMLINK:
            return RemoteEntry(*found.entry)
        fields = {"refresh": True} if refresh else {}
        entry = self._resolve(path, fields)
        if entry.kind != SYMLINK:
            return entry
        read_link = read_link_of(self.attachment().catalog)
        return follow(path, lambda at: self._resolve(at, {}), read_link)

    def _resolve(self, path: str, fields: dict[str, Any]) -> RemoteEntry:
        _, ok, fds = self._call(Operation.RESOLVE, path=path, **fields)
        protocol.close_all(fds)
        return protocol.entry_from_wire(ok["entry"])

    def listdir(self, path: str) -> list[RemoteEntry]:
        """The entries of a folder, by name, symlinks not followed. Raises as `entry` does.

        A folder whose listing is fresh is read from the catalog, without a request.
        """
        found = self.local().view.children(path)
        return self._list({"path": path}) if found is None else found

    def list_directory(self, directory: int) -> list[RemoteEntry]:
        """The entries of the folder with that id, by name. Raises as `entry` does."""
        return self._list({"directory": directory})

    def _list(self, which: dict[str, Any]) -> list[RemoteEntry]:
        _, ok, fds = self._call(Operation.LIST, entries=True, **which)
        try:
            if not fds:
                return [protocol.entry_from_wire(wire) for wire in ok["entries"]]
            return list(protocol.read_entries(fds[0]))
        finally:
            protocol.close_all(fds)

    def omitted(self, directory: int) -> dict[str, int]:
        """What a listed folder's source holds that no file system can show: counts by reason."""
        from fluidpy.namespace.catalog import CatalogReader

        catalog = Path(self.attachment().catalog)
        with SQLITE_LOCK, closing(CatalogReader(catalog)) as reader:
            return reader.omitted(directory)

    def open_object(self, path: str) -> Opened:
        """Opens the file at a path in its present version.

        A small one that is cached as a whole is opened without the worker. Raises as `entry` does,
        and IsADirectoryInDatasetError for a folder.
        """
        local = self.local()
        from fluidpy.client.local_reads import DIRECT_BYTES, HELD

        found = local.open(path, DIRECT_BYTES)
        if found is not None and found.fd >= 0:
            if HELD.take(found.entry.size):
                self._used(local, found.key)
                entry = RemoteEntry(*found.entry)
                return Opened(local.attachment, NO_HANDLE, entry, True, found.fd, path)
            os.close(found.fd)
        return self._open(path)

    def reopen_object(self, opened: Opened, limit: float) -> Opened:
        """Opens that very version again, until `limit`. Raises SourceChangedError when gone.

        At the same worker by its id, at another one by its path.
        """
        entry = opened.entry
        try:
            fresh = self._open(opened.path, opened, limit)
        except FileNotFoundError as error:
            raise gone(entry) from error
        if version_of(fresh.entry) != version_of(entry):
            self.close_object(fresh)
            raise gone(entry)
        return fresh

    def _open(self, path: str, before: Opened | None = None, limit: float | None = None) -> Opened:
        def which(attachment: Attachment) -> dict[str, Any]:
            if before is not None and before.attachment.catalog == attachment.catalog:
                return {"entry": before.entry.id}
            return {"path": path}

        attachment, ok, fds = self._call(Operation.OPEN, limit, which)
        try:
            entry, fd = protocol.entry_from_wire(ok["entry"]), fds.pop(0) if fds else -1
            complete = bool(ok["complete"]) and fd >= 0
            return Opened(attachment, ok["handle"], entry, complete, fd, path)
        finally:
            protocol.close_all(fds)

    def close_object(self, opened: Opened) -> None:
        """Gives back the handle and closes the fd; never waits for the worker."""
        if opened.fd >= 0:
            os.close(opened.fd)
        if opened.handle == NO_HANDLE:
            from fluidpy.client.local_reads import HELD

            HELD.give_back(opened.entry.size)
            return
        self.connection.release(opened.handle, opened.attachment.generation, opened.entry.size)

    def read_object(
        self, opened: Opened, start: int, end: int, limit: float
    ) -> tuple[Message, list[int]]:
        """The worker's answer to `read`: see the protocol; the fds are the caller's to close.

        Raises LostConnectionError when the handle is of another connection: reopen then.
        """
        return self.connection.call(
            Operation.READ,
            deadline=_left(limit),
            generation=opened.attachment.generation,
            dataset=opened.attachment.dataset,
            handle=opened.handle,
            start=start,
            end=end,
        )

    def read(self, path: str, start: int | None = 0, end: int | None = None) -> bytes:
        """The bytes `[start:end]` of a file, bounds as in a slice, in one version.

        What is cached as a whole is read without the worker. Raises as `open_object` does, and as
        ObjectReader's reads do.
        """
        from fluidpy.client.file import ObjectReader
        from fluidpy.client.local_reads import read_slice

        local = self.local()
        if (found := local.open(path)) is not None:
            try:
                data = read_slice(found.fd, *clip(start, end, found.entry.size))
            finally:
                if found.fd >= 0:
                    os.close(found.fd)
            if data is not None:
                self._used(local, found.key, len(data))
                return data
        with ObjectReader(self, self._open(path)) as reader:
            return reader.read_range(*clip(start, end, reader.size))

    def close(self) -> None:
        """Forgets the attachment; files that are open stay so. The connection is the process's."""
        local, self._local, self._attachment = self._local, None, None
        if local is not None:
            local.end()


def clip(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    """The bounds that a slice `[start:end]` of `size` bytes means."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


def _left(limit: float) -> float:
    """Seconds until `limit`; a moment at least, so that whoever waits says what for."""
    return max(0.001, limit - time.monotonic())
