"""A Dataset as a client sees it: entries, folders, open files and ranges, asked of the worker.

A session holds the Dataset's definition, so that it can attach again after the worker was replaced
or the process forked. All calls may come from any thread. Nothing is cached here: the worker has
the catalog and decides how fresh it must be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from fluidpy.client import protocol
from fluidpy.client.connection import LostConnectionError, WorkerConnection, connection_for
from fluidpy.client.protocol import Message, Operation, RemoteEntry
from fluidpy.client.start import check_cache_directory
from fluidpy.client.symlinks import SYMLINK, follow, read_link_of
from fluidpy.errors import SourceChangedError, WorkerError, WorkerTimeoutError
from fluidpy.settings import Settings

FILE: Final = 1
"""`Kind.FILE` of the under storages, not imported here to keep clients light."""
DIRECTORY: Final = 2
"""`Kind.DIRECTORY`."""

_GRACE_SECONDS: Final = 5.0
"""A client waits this much longer than the worker's own deadline, so that the worker's error, which
says more, comes first."""

_RETRY_SECONDS: Final = (0.0, 0.02, 0.1, 0.5)
"""Pauses before asking again after the worker was lost; the last one repeats until the deadline."""


class Definition(Protocol):
    """What a session needs of a `DatasetDefinition`."""

    @property
    def key(self) -> str:
        """`namespace/name`."""

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, secrets included."""


DefinitionSource: TypeAlias = "Definition | str | Callable[[], Definition | str]"
"""A definition, a name `namespace/name` that the worker already knows, or what finds either."""

_Result = TypeVar("_Result")


class Attachment(NamedTuple):
    """A Dataset in one connection to the worker."""

    generation: int
    dataset: int
    key: str
    catalog: str


class Opened(NamedTuple):
    """A file as the worker opened it; `fd` (-1: none) belongs to whoever holds this."""

    attachment: Attachment
    handle: int
    entry: RemoteEntry
    complete: bool
    fd: int


class DatasetSession:
    """Lookups, listings and reads of one Dataset, through this user's worker."""

    def __init__(self, definition: DefinitionSource, settings: Settings) -> None:
        """Costs nothing: the worker is asked, and started, by the first call that needs it."""
        self.settings = settings
        self.connection: WorkerConnection = connection_for(settings)
        self._source = definition
        self._attachment: Attachment | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def block_bytes(self) -> int:
        """Size of the worker's cached blocks in bytes."""
        return self.connection.block_bytes

    @property
    def deadline(self) -> float:
        """How long one call may take in seconds, a new worker's start not counted."""
        return self.settings.source_deadline_seconds + _GRACE_SECONDS

    def attachment(self) -> Attachment:
        """The Dataset in the present connection; attaches when there is none.

        Raises DatasetNotFoundError, ValidationError and the worker's errors.
        """
        attachment = self._attachment
        if attachment is not None and self._is_current(attachment):
            return attachment
        self._renew_lock_after_fork()
        with self._lock:
            attachment = self._attachment
            if attachment is None or not self._is_current(attachment):
                attachment = self._attachment = self._attach()
            return attachment

    def _is_current(self, attachment: Attachment) -> bool:
        return attachment.generation == self.connection.generation and self.connection.connected

    def _renew_lock_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._pid = os.getpid()

    def _attach(self) -> Attachment:
        source = self._source() if callable(self._source) else self._source
        self._source = source
        how = {"name": source} if isinstance(source, str) else {"definition": source.to_wire()}
        generation = self.connection.connect()
        if self._attachment is None:  # a reader goes on with whatever worker came after the first
            check_cache_directory(self.connection.greeting, self.settings)
        ok, fds = self.connection.call(
            Operation.ATTACH, deadline=self.deadline, generation=generation, **how
        )
        protocol.close_all(fds)
        return Attachment(generation, ok["dataset"], ok["key"], ok["catalog"])

    def _call(self, operation: str, **fields: Any) -> tuple[Attachment, Message, list[int]]:
        def once(left: float) -> tuple[Attachment, Message, list[int]]:
            attachment = self.attachment()
            ok, fds = self.connection.call(
                operation,
                deadline=left,
                generation=attachment.generation,
                dataset=attachment.dataset,
                **fields,
            )
            return attachment, ok, fds

        return self.insist(operation, once)

    def insist(self, operation: str, once: Callable[[float], _Result]) -> _Result:
        """Calls `once(seconds left)` again as long as the worker gets lost and time is left.

        Raises WorkerTimeoutError after that, and whatever else `once` raises.
        """
        limit = time.monotonic() + self.deadline
        attempt = 0
        while True:
            try:
                return once(max(0.001, limit - time.monotonic()))
            except LostConnectionError as error:
                pause = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                if time.monotonic() + pause > limit:
                    raise WorkerTimeoutError(
                        f"the worker was lost again and again while asked to `{operation}`",
                        cure=f"Look at {self.settings.runtime_dir / 'worker.log'}.",
                    ) from error
                time.sleep(pause)
                attempt += 1

    def entry(self, path: str, *, refresh: bool = False) -> RemoteEntry:
        """What lies at a path. Raises PathNotFoundError, NotADirectoryInDatasetError, SourceError.

        `refresh` asks the source even when the catalog is fresh. Symlinks are followed, so that
        the entry's name may be another one.
        """
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
        """The entries of a folder, by name, symlinks not followed. Raises as `entry` does."""
        return self._list({"path": path})

    def list_directory(self, directory: int) -> list[RemoteEntry]:
        """The entries of the folder with that id, by name. Raises as `entry` does."""
        return self._list({"directory": directory})

    def _list(self, which: dict[str, Any]) -> list[RemoteEntry]:
        _, ok, fds = self._call(Operation.LIST, entries=True, **which)
        try:
            if not fds:
                return [protocol.entry_from_wire(wire) for wire in ok["entries"]]
            return list(protocol.decode_entries(_read_whole(fds[0])))
        finally:
            protocol.close_all(fds)

    def omitted(self, directory: int) -> dict[str, int]:
        """What a listed folder's source holds that no file system can show: counts by reason."""
        from fluidpy.namespace.catalog import CatalogReader

        reader = CatalogReader(Path(self.attachment().catalog))
        try:
            return reader.omitted(directory)
        finally:
            reader.close()

    def open_object(self, path: str) -> Opened:
        """Opens the file at a path in its present version.

        Raises as `entry` does, and IsADirectoryInDatasetError for a folder.
        """
        return self._open(path=path)

    def reopen_object(self, entry: RemoteEntry) -> Opened:
        """Opens that very version again. Raises SourceChangedError when it is gone."""
        try:
            opened = self._open(entry=entry.id)
        except FileNotFoundError as error:
            raise _gone(entry) from error
        if version_of(opened.entry) != version_of(entry):
            self.close_object(opened)
            raise _gone(entry)
        return opened

    def _open(self, **which: Any) -> Opened:
        attachment, ok, fds = self._call(Operation.OPEN, **which)
        try:
            entry = protocol.entry_from_wire(ok["entry"])
            fd = fds.pop(0) if fds else -1
            return Opened(attachment, ok["handle"], entry, bool(ok["complete"]) and fd >= 0, fd)
        finally:
            protocol.close_all(fds)

    def close_object(self, opened: Opened) -> None:
        """Gives back the handle and closes the fd; never waits for the worker."""
        if opened.fd >= 0:
            os.close(opened.fd)
        self.connection.release(opened.handle, opened.attachment.generation, opened.entry.size)

    def read_object(self, opened: Opened, start: int, end: int) -> tuple[Message, list[int]]:
        """The worker's answer to `read`: see the protocol; the fds are the caller's to close.

        Raises LostConnectionError when the handle is of another connection: reopen then.
        """
        return self.connection.call(
            Operation.READ,
            deadline=self.deadline,
            generation=opened.attachment.generation,
            dataset=opened.attachment.dataset,
            handle=opened.handle,
            start=start,
            end=end,
        )

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes `[start, end)` of a file (to its end when `end` is None), in one version."""
        from fluidpy.client.file import ObjectReader

        with ObjectReader(self, self.open_object(path)) as reader:
            return reader.read_range(start, reader.size if end is None else end)

    def close(self) -> None:
        """Forgets the attachment; files that are open stay so. The connection is the process's."""
        self._attachment = None


def version_of(entry: RemoteEntry) -> tuple[bytes, int, int]:
    """What must be equal for two entries to have the same bytes.

    Size and time count too: the version is empty where the source has none. A volatile version
    and the one it becomes once it lasts name the same bytes.
    """
    from fluidpy.storage.under_storage import VOLATILE

    return entry.version.removeprefix(VOLATILE), entry.size, entry.mtime_ns


def _read_whole(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    if len(data) != size:
        raise WorkerError(
            "a listing passed by the worker was cut off", cure="List the folder again."
        )
    return data


def _gone(entry: RemoteEntry) -> SourceChangedError:
    return SourceChangedError(
        f"{os.fsdecode(entry.name)} changed at its source since it was opened",
        cure="Open it again to read the new version.",
    )
