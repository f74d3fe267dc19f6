"""`attach`, `lookup`, `resolve`, `list`, `invalidations`: the tree of a Dataset.

Clients read the catalog themselves; what they ask here is that it be fresh. A folder whose listing
is young enough is answered at once.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fluidpy.client.protocol import (
    EVENT_CHANGED,
    MAX_INLINE_ENTRIES_BYTES,
    Message,
    encode_entries,
    entry_to_wire,
)
from fluidpy.errors import NotADirectoryInDatasetError, PathNotFoundError, ValidationError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.storage.under_storage import Kind
from fluidpy.worker.passed_bytes import new_memfd, write_at
from fluidpy.worker.requests import Answer, Progress, Reply, integer, text

if TYPE_CHECKING:
    from fluidpy.namespace.catalog_rows import Changes
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.session import Session

ROOT: Final = 1
"""The root directory's row in every catalog."""

PAGE: Final = 1024
"""Entries read and encoded before the loop looks at its other work."""

EVENT_ENTRIES: Final = 500
"""Entries in one event; names have 255 bytes at most, so a message stays below its limit."""


def attach(session: Session, request: Message, _: Progress) -> Answer:
    """`attach`: opens a Dataset by its definition, or finds one that somebody is attached to.

    By `name`, with `catalog` the one that the client's rows are of: they stay the same then.
    """
    if (wire := request.get("definition")) is not None:
        manage = request.get("manage") is True
        return _attach_definition(session, _definition_of(wire), manage)
    if request.get("catalog"):
        return _attach_tree(session, text(request, "name"), Path(text(request, "catalog")))
    dataset = session.worker.datasets.named(text(request, "name"))
    dataset.users.add(session)
    return _attached(dataset)


async def _attach_tree(session: Session, key: str, catalog: Path) -> Reply:
    dataset = await session.worker.datasets.attach_tree(key, catalog, session)
    if session.connection.closed:
        session.worker.datasets.detach(session)
    return _attached(dataset)


def detach(session: Session, request: Message, _: Progress) -> Answer:
    """`detach`: this client uses the Dataset `key` no longer."""
    session.worker.datasets.detach(session, text(request, "key"))
    return Reply({})


def _definition_of(wire: Any) -> DatasetDefinition:
    """The definition; the error names the field that is wrong, never a value (secrets)."""
    try:
        return DatasetDefinition.from_wire(wire)
    except ValidationError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        field = error.args[0] if isinstance(error, KeyError) else type(error).__name__
        raise ValidationError(
            f"the definition of the Dataset cannot be understood ({field})",
            cure="Use a client of the same version as the worker.",
        ) from None


async def _attach_definition(
    session: Session, definition: DatasetDefinition, manage: bool
) -> Reply:
    dataset = await session.worker.datasets.attach(definition, session, manage=manage)
    if session.connection.closed:
        session.worker.datasets.detach(session)
    return _attached(dataset)


def _attached(dataset: AttachedDataset) -> Reply:
    definition, ttl = dataset.definition, dataset.namespace.ttl_seconds
    return Reply(
        {
            "dataset": dataset.id,
            "key": definition.key,
            "catalog": str(dataset.namespace.catalog_path),
            "root": ROOT,
            "uid": definition.uid,
            "gid": definition.gid,
            "digest": dataset.digest,
            "ttl_seconds": None if math.isinf(ttl) else ttl,
            "index": str(dataset.store.index_path),
            "sources": [source.to_wire() for source in dataset.namespace.key_sources()],
        }
    )


def lookup(session: Session, request: Message, _: Progress) -> Answer:
    """`lookup`: one name in a folder."""
    dataset = session.dataset(request)
    parent, name = integer(request, "parent"), os.fsencode(text(request, "name"))
    if not dataset.is_fresh(parent):
        return _lookup(dataset, parent, name)
    entry = dataset.namespace.reader.lookup(parent, name)
    if entry is None:
        raise PathNotFoundError(
            f"{os.fsdecode(name)!r} does not exist in Dataset {dataset.definition.key}",
            cure="Look at the folder; a refresh shows what is new at the source.",
        )
    return Reply({"entry": entry_to_wire(entry)})


async def _lookup(dataset: AttachedDataset, parent: int, name: bytes) -> Reply:
    return Reply({"entry": entry_to_wire(await dataset.namespace.lookup(parent, name))})


def resolve(session: Session, request: Message, _: Progress) -> Answer:
    """`resolve`: the entry at a path; `refresh` asks the source first."""
    dataset, path = session.dataset(request), text(request, "path")
    refresh = bool(request.get("refresh"))
    if not refresh and (entry := dataset.fresh_entry(path)) is not None:
        return Reply({"entry": entry_to_wire(entry)})
    return _resolve(dataset, path, refresh)


async def _resolve(dataset: AttachedDataset, path: str, refresh: bool) -> Reply:
    if refresh:
        await dataset.namespace.refresh(path, recursive=False)
    return Reply({"entry": entry_to_wire(await dataset.resolve(path))})


def list_directory(session: Session, request: Message, _: Progress) -> Answer:
    """`list`: makes a folder's listing fresh; with `entries`, gives it too."""
    dataset, wants_entries = session.dataset(request), bool(request.get("entries"))
    directory = request.get("directory")
    if directory is None:
        return _list_path(dataset, text(request, "path"), wants_entries)
    directory = integer(request, "directory")
    if not wants_entries and dataset.is_fresh(directory):
        return Reply({"changed": False})
    return _list(dataset, directory, wants_entries)


async def _list_path(dataset: AttachedDataset, path: str, wants_entries: bool) -> Reply:
    entry = await dataset.follow(path)
    if entry.kind != Kind.DIRECTORY:
        raise NotADirectoryInDatasetError(f"{path!r} is not a folder", cure="List its folder.")
    return await _list(dataset, entry.id, wants_entries)


async def _list(dataset: AttachedDataset, directory: int, wants_entries: bool) -> Reply:
    changes = await dataset.namespace.ensure_listed(directory)
    if wants_entries:
        return await _entries(dataset, directory)
    return Reply({"changed": changes.any()})


async def _entries(dataset: AttachedDataset, directory: int) -> Reply:
    """The children by name: inline while they are few, else as JSON lines in a memfd."""
    children, after = dataset.namespace.reader.children, b""
    page = children(directory, after, PAGE)
    data = encode_entries(page)
    if len(page) < PAGE and len(data) <= MAX_INLINE_ENTRIES_BYTES:
        return Reply({"entries": [entry_to_wire(entry) for entry in page]})
    fd = new_memfd()
    try:
        offset = 0
        while data:
            write_at(fd, memoryview(data), offset)
            offset += len(data)
            await asyncio.sleep(0)
            page = children(directory, page[-1].name, PAGE) if len(page) == PAGE else []
            data = encode_entries(page)
    except BaseException:
        os.close(fd)
        raise
    return Reply({"entries": None}, (fd,), owned=True)


def invalidations(session: Session, request: Message, _: Progress) -> Answer:
    """`invalidations`: from now on, changed and removed entries are pushed to this client.

    With `since`, those of so many seconds before are pushed as well; `complete` says whether all of
    them were known still.
    """
    dataset = session.dataset(request)
    if not request.get("subscribe", True):
        dataset.listeners.pop(session, None)
        return Reply({})
    listener = dataset.listeners[session] = session.worker.push_changes(session)
    missed = dataset.recent.since(float(request.get("since", 0.0)))
    if missed is not None and missed.any():
        listener(dataset, missed)
    return Reply({"complete": missed is not None})


async def push(session: Session, dataset: AttachedDataset, changes: Changes) -> None:
    """Pushes changes in pieces, no faster than the client reads them."""
    batch: list[list[Any]] = []
    for row in changed_rows(dataset, changes):
        batch.append(row)
        if len(batch) == EVENT_ENTRIES:
            await _push_batch(session, dataset, batch)
            batch = []
    if batch:
        await _push_batch(session, dataset, batch)


async def _push_batch(session: Session, dataset: AttachedDataset, batch: list[list[Any]]) -> None:
    connection = session.connection
    await connection.drained()
    connection.push(EVENT_CHANGED, {"dataset": dataset.id, "entries": batch})
    await asyncio.sleep(0)


def changed_rows(dataset: AttachedDataset, changes: Changes) -> Iterator[list[Any]]:
    """`[parent, name, old id, new id or 0]` of each entry that changed or left.

    Entries that came are told as `[parent, name, 0, id]`, for those who remember absences.
    """
    get = dataset.namespace.reader.get
    for old_id, new_id in changes.changed:
        if (row := get(new_id)) is not None:
            yield [row.parent, os.fsdecode(row.name), old_id, new_id]
    for old_id in changes.removed:
        if (row := get(old_id)) is not None:
            yield [row.parent, os.fsdecode(row.name), old_id, 0]
    for new_id in changes.added:
        if (row := get(new_id)) is not None:
            yield [row.parent, os.fsdecode(row.name), 0, new_id]
