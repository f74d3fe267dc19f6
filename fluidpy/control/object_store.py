"""The objects that were declared, kept through any crash, each with the versions Kubernetes gives.

One process at a time has the store. All is in memory too, so that reading costs nothing; a write is
on the disk (synced) before anybody sees it. Values of Secrets are in it: the folder is 0700.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from diskcache import Cache, Timeout

from fluidpy.control import object_lifecycle
from fluidpy.control.object_lifecycle import CLUSTER, Document, ObjectKey
from fluidpy.control.plain_rows_disk import PlainRowsDisk
from fluidpy.errors import (
    ControlPlaneError,
    ObjectConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    WatchExpiredError,
)

ChangeType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED"]

CHANGES_REMEMBERED: Final = 10_000
"""Changes that a watch may have missed; older ones mean listing again."""

BUSY_SECONDS: Final = 5.0
"""How long a write waits for another program that has locked the database, such as a backup."""

_REVISION: Final = "revision"
_OBJECT: Final = "object/"
_SYNCHRONOUS_FULL: Final = 2
"""`PRAGMA synchronous`: a commit is on the disk, also when the machine loses power."""


class Change(NamedTuple):
    """One change of one object: the revision it made, and the object after it (or its last)."""

    revision: int
    type: ChangeType
    key: ObjectKey
    document: Document


class ObjectStore:
    """All objects of a control plane; documents that it gives out are not to be changed."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the folder, or makes it (0700). `clock` gives epoch seconds.

        Raises ControlPlaneError when it cannot be used, or another process has it.
        """
        self._clock = clock
        self._lock = _lock_folder(directory)
        self._revision = 0
        self.declarations = 0
        """Grows with each change of what is declared, not with those of a status."""
        self._objects: dict[ObjectKey, Document] = {}
        self._changes: deque[Change] = deque(maxlen=CHANGES_REMEMBERED)
        self.listeners: list[Callable[[Change], None]] = []
        try:
            self._cache = Cache(
                os.fspath(directory),
                disk=PlainRowsDisk,
                eviction_policy="none",
                cull_limit=0,
                sqlite_synchronous=_SYNCHRONOUS_FULL,
                timeout=BUSY_SECONDS,
            )
            try:
                self._read_all()
            except BaseException:
                self._cache.close()
                raise
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, ControlPlaneError) or not isinstance(error, Exception):
                raise
            raise ControlPlaneError(
                f"the objects in {directory} cannot be read: {error}",
                cure="Free space there or mend its permissions; else move the folder away, and "
                "apply the files again.",
            ) from error
        self._forgotten = self._revision

    def _read_all(self) -> None:
        for name in list(self._cache.iterkeys()):
            value = self._cache.get(name)
            if name == _REVISION:
                self._revision = int(value)
            elif name.startswith(_OBJECT):
                plural, namespace, object_name = name[len(_OBJECT) :].split("/")
                self._objects[ObjectKey(plural, namespace, object_name)] = json.loads(value)

    def close(self) -> None:
        """Ends the use of the folder."""
        self._cache.close()
        os.close(self._lock)

    @property
    def revision(self) -> int:
        """Grows with each change; the resourceVersion of what is listed now."""
        return self._revision

    def find(self, key: ObjectKey) -> Document | None:
        """The object, or None."""
        return self._objects.get(key)

    def get(self, key: ObjectKey) -> Document:
        """The object. Raises ObjectNotFoundError."""
        found = self._objects.get(key)
        if found is None:
            where = f" in the namespace {key.namespace}" if key.namespace else ""
            raise ObjectNotFoundError(
                f"there is no {key.plural} {key.name}{where}",
                cure=f"`fluidpy get {key.plural} -A` lists what is there.",
            )
        return found

    def list_objects(self, plural: str, namespace: str | None = None) -> list[Document]:
        """The objects of a kind, by namespace and name; of one namespace if it is given."""
        keys = sorted(
            key
            for key in self._objects
            if key.plural == plural and namespace in (None, key.namespace)
        )
        return [self._objects[key] for key in keys]

    def __iter__(self) -> Iterator[tuple[ObjectKey, Document]]:
        """All objects with their keys."""
        return iter(list(self._objects.items()))

    def create(
        self, key: ObjectKey, document: Mapping[str, object], finalizers: Sequence[str] = ()
    ) -> Document:
        """Adds an object. Raises ObjectExistsError, and ControlPlaneError as all changes do when
        they cannot be written: then nothing is changed.
        """
        if key in self._objects:
            raise ObjectExistsError(
                f"there is a {document.get('kind', key.plural)} {key.name} already",
                cure="Change it (`fluidpy apply`), delete it first, or choose another name.",
            )
        fresh = object_lifecycle.created(
            document, uid=str(uuid.uuid4()), now=self._clock(), finalizers=finalizers
        )
        return self._put(key, fresh, "ADDED")

    def replace(self, key: ObjectKey, document: Mapping[str, object]) -> Document:
        """Puts another declaration in the place of an object's; the same one changes nothing.

        Raises ObjectNotFoundError, ObjectConflictError when it was made from another version.
        """
        old = self.get(key)
        fresh = object_lifecycle.replaced(old, document)
        if object_lifecycle.is_deleting(old) and fresh["metadata"].get("generation") != old[
            "metadata"
        ].get("generation"):
            raise ObjectConflictError(
                f"{old['kind']} {key.name} is being deleted",
                cure="Wait until it is gone (`fluidpy describe` says what it waits for), and apply "
                "again.",
            )
        return self._changed(key, old, fresh)

    def set_status(self, key: ObjectKey, status: Mapping[str, object]) -> Document:
        """Notes what is seen of an object; the same status changes nothing.

        Raises ObjectNotFoundError.
        """
        old, declarations = self.get(key), self.declarations
        fresh = self._changed(key, old, object_lifecycle.with_status(old, status))
        self.declarations = declarations
        return fresh

    def delete(self, key: ObjectKey) -> Document:
        """Removes an object, or notes that it is to go once its finalizers have.

        The object as it is then, or was last. Raises ObjectNotFoundError.
        """
        old = self.get(key)
        marked = object_lifecycle.marked_for_deletion(old, now=self._clock())
        return self._changed(key, old, marked)

    def finalize(self, key: ObjectKey, finalizer: str) -> Document:
        """Takes a finalizer away; the last one of an object to be deleted takes it along.

        Raises ObjectNotFoundError.
        """
        old = self.get(key)
        return self._changed(key, old, object_lifecycle.without_finalizer(old, finalizer))

    def changes_since(self, revision: int) -> list[Change]:
        """What changed after `revision`. Raises WatchExpiredError when that is not known."""
        if not self._forgotten <= revision <= self._revision:
            raise WatchExpiredError(
                f"the changes after {revision} are not remembered",
                cure="List the objects again, and watch from the resourceVersion of the list.",
            )
        return [change for change in self._changes if change.revision > revision]

    def _changed(self, key: ObjectKey, old: Document, fresh: Document) -> Document:
        if object_lifecycle.is_over(fresh):
            return self._remove(key, fresh)
        if _same(old, fresh):
            return old
        return self._put(key, fresh, "MODIFIED")

    def _put(self, key: ObjectKey, fresh: Document, kind: ChangeType) -> Document:
        revision = self._revision + 1
        fresh["metadata"]["resourceVersion"] = str(revision)
        text = json.dumps(fresh, separators=(",", ":")).encode()
        with self._written():
            self._cache.set(_name(key), text)
            self._cache.set(_REVISION, str(revision).encode())
        self._objects[key] = fresh
        self._tell(Change(revision, kind, key, fresh))
        return fresh

    def _remove(self, key: ObjectKey, last: Document) -> Document:
        revision = self._revision + 1
        last["metadata"]["resourceVersion"] = str(revision)
        with self._written():
            self._cache.delete(_name(key))
            self._cache.set(_REVISION, str(revision).encode())
        self._objects.pop(key, None)
        self._tell(Change(revision, "DELETED", key, last))
        return last

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """All that is done inside is written, or nothing of it. Raises ControlPlaneError."""
        try:
            with self._cache.transact():
                yield
        except (sqlite3.Error, Timeout) as error:
            why = error.__context__ if isinstance(error, Timeout) else error
            raise ControlPlaneError(
                f"the change cannot be written to {self._cache.directory}: {why}",
                cure="Free space there, end what else uses it, and try again.",
            ) from error

    def _tell(self, change: Change) -> None:
        if len(self._changes) == CHANGES_REMEMBERED:
            self._forgotten = self._changes[0].revision
        self._changes.append(change)
        self.declarations += 1
        self._revision = change.revision
        for listener in list(self.listeners):
            listener(change)


def _name(key: ObjectKey) -> str:
    return f"{_OBJECT}{key.plural}/{key.namespace or CLUSTER}/{key.name}"


def _same(old: Document, fresh: Document) -> bool:
    def plain(document: Document) -> Document:
        metadata = {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}
        return {**document, "metadata": metadata}

    return plain(old) == plain(fresh)


def _lock_folder(directory: Path) -> int:
    """Makes the folder private and takes its lock; the fd that holds it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ControlPlaneError(
            f"the folder of the objects {directory} cannot be used: {error.strerror}",
            cure="Set FLUIDPY_STATE_DIR to a directory of your own.",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ControlPlaneError(
            f"another control plane has the objects in {directory}",
            cure="End it (`fluidpy down`), or set another FLUIDPY_STATE_DIR.",
        ) from None
    return fd
