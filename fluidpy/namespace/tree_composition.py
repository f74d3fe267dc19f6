"""Mounts' paths made rows of the catalog, keeping what is known of mounts that stay."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fluidpy.namespace import catalog_rows as rows
from fluidpy.namespace.catalog import SYNTHETIC_LISTED_AT
from fluidpy.namespace.catalog_rows import Changes, Row
from fluidpy.namespace.catalog_schema import ROOT
from fluidpy.namespace.definition import MountDefinition
from fluidpy.namespace.listing_merge import Known
from fluidpy.namespace.tree import Node, parts_of
from fluidpy.storage.under_storage import Kind

SYNTHETIC = -1
"""`Entry.mount` of a directory that no source lists."""
_GONE = -2
"""`mount` of rows whose mount the Dataset has no longer, while they are being retired."""


class Composition(NamedTuple):
    """Where mounts lie: the row of each mount's root, and, by directory row, the names in it that
    belong to mounts' paths (with their rows), which no listing changes; all such rows."""

    tops: tuple[int, ...]
    fixed: Mapping[int, Mapping[bytes, int]]
    directories: frozenset[int]


class Ids(Protocol):
    """What gives new row ids and the time."""

    def take_ids(self, number: int) -> int:
        """The first of `number` new row ids."""
        ...

    def clock(self) -> float:
        """Epoch seconds."""
        ...


def digest_of(mount: MountDefinition) -> str:
    """Tells whether a mount's options changed; secrets are left out, they may rotate."""
    text = json.dumps([mount.source.url, dict(mount.source.options)], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def tag_of(mount: MountDefinition) -> str:
    """What names a mount outside of the worker (`CatalogReader.mount_tag`)."""
    return digest_of(mount) + mount.path


def compose(
    ids: Ids, connection: sqlite3.Connection, mounts: Sequence[MountDefinition], nodes: list[Node]
) -> tuple[Composition, Changes]:
    """Makes the rows of `nodes`, inside a transaction; rows that no longer belong are retired."""
    changes = Changes.none()
    before = [path for (path,) in connection.execute("SELECT path FROM mount")]
    gone = _renumber(connection, mounts)
    placed: dict[tuple[bytes, ...], int] = {}
    fixed: dict[int, dict[bytes, int]] = {}
    for node in nodes:
        parent = placed[node.parts[:-1]] if node.parts else 0
        entry_id = _place(ids, connection, parent, node, changes)
        placed[node.parts] = entry_id
        if node.parts:
            fixed.setdefault(parent, {})[node.parts[-1]] = entry_id
    for node in nodes:
        _retire_strangers(ids, connection, placed[node.parts], node, fixed, changes)
    if gone:
        _retire_gone(ids, connection, changes)
    _list_ways_again(connection, before, placed)
    for node in nodes:
        if node.mount == SYNTHETIC:
            rows.set_listed(connection, placed[node.parts], SYNTHETIC_LISTED_AT, {})
    tops = {node.mount: placed[node.parts] for node in nodes if node.top}
    composition = Composition(
        tuple(tops[index] for index in range(len(mounts))), fixed, frozenset(placed.values())
    )
    return composition, changes


def _renumber(connection: sqlite3.Connection, mounts: Sequence[MountDefinition]) -> bool:
    """Gives rows the new position of their mount; whether some mount is gone."""
    known = connection.execute("SELECT position,path,url,digest FROM mount").fetchall()
    now = {(mount.path, mount.source.url): index for index, mount in enumerate(mounts)}
    moves = {position: now.get((path, url), _GONE) for position, path, url, _ in known}
    if any(old != new for old, new in moves.items()):
        cases = " ".join(f"WHEN {old} THEN {new}" for old, new in moves.items())
        connection.execute(
            f"UPDATE entry SET mount=CASE mount {cases} ELSE {_GONE} END WHERE mount>=0"
        )
    for position, _, _, digest in known:
        index = moves[position]
        if index != _GONE and digest != digest_of(mounts[index]):
            connection.execute(
                "DELETE FROM listing WHERE directory IN (SELECT id FROM entry WHERE mount=?)",
                (index,),
            )
    connection.execute("DELETE FROM mount")
    connection.executemany(
        "INSERT INTO mount VALUES (?,?,?,?,?)",
        [(i, m.name, m.path, m.source.url, digest_of(m)) for i, m in enumerate(mounts)],
    )
    return _GONE in moves.values()


def _place(
    ids: Ids, connection: sqlite3.Connection, parent: int, node: Node, changes: Changes
) -> int:
    name = node.parts[-1] if node.parts else b""
    known = rows.known_child(connection, parent, name)
    if known is not None and known.kind != Kind.DIRECTORY:
        changes.removed.extend(rows.retire_tree(connection, known, ids.clock()))
        known = None
    if known is None:
        entry_id = ids.take_ids(1)
        new = Row(entry_id, parent, name, Kind.DIRECTORY, 0, 0, None, None, b"", node.mount)
        rows.insert(connection, [new])
        changes.added.append(entry_id)
    else:
        entry_id = known.id
    _set_mount(connection, entry_id, node.mount)
    return entry_id


def _set_mount(connection: sqlite3.Connection, entry_id: int, mount: int) -> None:
    before = connection.execute("SELECT mount FROM entry WHERE id=?", (entry_id,)).fetchone()[0]
    if before != mount:
        connection.execute("UPDATE entry SET mount=? WHERE id=?", (mount, entry_id))
        rows.forget_listings(connection, [entry_id])


def _retire_strangers(
    ids: Ids,
    connection: sqlite3.Connection,
    directory: int,
    node: Node,
    fixed: Mapping[int, Mapping[bytes, int]],
    changes: Changes,
) -> None:
    """Retires children of another source than the one that lists the directory now."""
    strangers = connection.execute(
        f"SELECT {rows.KNOWN} FROM entry WHERE parent=? AND retired_at IS NULL"
        " AND (mount<>? OR mount<0)",
        (directory, node.mount),
    ).fetchall()
    own = fixed.get(directory, {})
    leaving = [known for known in map(Known._make, strangers) if known.name not in own]
    for known in leaving:
        changes.removed.extend(rows.retire_tree(connection, known, ids.clock()))
    if leaving:  # what they hid is shown by the next listing
        rows.forget_listings(connection, [directory])


def _list_ways_again(
    connection: sqlite3.Connection, paths: Sequence[str], placed: Mapping[tuple[bytes, ...], int]
) -> None:
    """Has folders listed in which a way to a former mount lies: only their source knows it now."""
    for parts in map(parts_of, paths):
        row = ROOT
        for depth, name in enumerate(parts, 1):
            known = rows.known_child(connection, row, name)
            if known is None:
                break
            if parts[:depth] not in placed:
                rows.forget_listings(connection, [row])
            row = known.id


def _retire_gone(ids: Ids, connection: sqlite3.Connection, changes: Changes) -> None:
    """Retires what is left of mounts that are gone, and has the folders they lay in listed."""
    left = connection.execute(
        "SELECT id,parent FROM entry WHERE mount=? AND retired_at IS NULL", (_GONE,)
    ).fetchall()
    gone = [entry_id for entry_id, _ in left]
    rows.retire(connection, gone, ids.clock())
    rows.forget_listings(connection, {*gone, *(parent for _, parent in left)})
    changes.removed.extend(gone)
