"""A listing too long for one transaction, merged with the catalog page by page.

Used for a flat walk of a whole mount or folder and for a folder of very many files. Memory stays
bounded: what was seen is a bit a row, what is inserted leaves at once. New and changed files appear
page by page; only when the listing has come to its end are files removed that it did not name, and
only then do its folders count as listed. So a merge that is cut off leaves nothing wrong behind.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from fluidpy.errors import PathNotFoundError
from fluidpy.namespace import catalog_rows as rows
from fluidpy.namespace.catalog_rows import Changes, Row, RowValues, row_of
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.listing_merge import Child, Known, Merge, child_of, compare, showable
from fluidpy.namespace.row_id_set import RowIdSet
from fluidpy.storage.object_keys import FILE_AND_FOLDER, NAME_MAX, NAME_TOO_LONG, omission
from fluidpy.storage.under_storage import Kind, ListPage, ObjectInfo

_REMEMBERED_FOLDERS = 50_000
"""Paths of folders kept with their row ids; more are looked up again (about 10 MB)."""
_REMEMBERED_OMISSIONS = 100_000
"""Folders with omissions told apart; of any more, the walk's own folder counts them."""
_SWEEP_STEP = 10_000
"""Rows read, and rows retired, in one transaction when the listing has ended."""


class CatalogMerge:
    """One listing on its way into the catalog: `add` its pages, then `finish`.

    `top` is the row of the folder that is listed and `prefix` its path within mount number `mount`
    (no slash at the ends). `recursive`: the pages hold all files below; else direct children.
    """

    def __init__(
        self, writer: CatalogWriter, top: int, mount: int, prefix: str, *, recursive: bool
    ) -> None:
        """Nothing is read or written yet."""
        self.files = 0
        """Files seen; symlinks are not counted."""
        self.bytes = 0
        """Bytes of the files seen."""
        self.omitted: Counter[tuple[int, str]] = Counter()
        """Keys left out, by folder's row and reason."""
        self._writer, self._connection = writer, writer.connection
        self._top, self._mount, self._recursive = top, mount, recursive
        self._cut = len(prefix) + 1 if prefix else 0
        self._start = writer.next_id
        self._seen = RowIdSet()
        self._walked = array("q", [top])
        self._folders: dict[str, int | None] = {"": top}
        self._deferred: list[tuple[int, Known, Child]] = []
        self._foreign = {
            row for row in writer.composition.tops if row != top
        }  # roots of other mounts hide what this source has there
        self._new: list[RowValues] = []
        self._changes = Changes.none()
        self._seen.add(top)
        self._retirements = writer.retirements

    def add(self, page: ListPage) -> Changes:
        """Merges a page in one transaction."""
        self._changes = Changes.none()
        with self._writer.transaction():
            self._forget_retired()
            for folder, infos in groupby(page.entries, self._folder_of):
                directory = self._directory(folder)
                if directory is not None:
                    self._add_children(directory, folder, infos)
            self._insert_new()
            for key, reason in page.omitted:
                self._omit(self._listed_in(key), reason)
            if self._changes.any():
                self._writer.changed()
        return self._changes

    def _forget_retired(self) -> None:
        """Another listing may have removed folders since the last page."""
        if self._retirements == self._writer.retirements:
            return
        self._retirements = self._writer.retirements
        self._folders = {"": self._top}
        if not rows.is_live(self._connection, self._top):
            raise PathNotFoundError(
                "the folder was removed while it was being listed", cure="List its parent again."
            )

    def _folder_of(self, info: ObjectInfo) -> str:
        path = info.path
        return path[self._cut : max(path.rfind("/"), self._cut)]

    def _add_children(self, directory: int, folder: str, infos: Iterable[ObjectInfo]) -> None:
        if directory >= self._start:
            infos = self._add_fresh(directory, folder, infos)
        fixed = self._writer.composition.fixed.get(directory, {})
        checked: dict[bytes, Child] = {}
        for info in infos:
            child = child_of(info)
            if not showable(child.name):
                self._omit(directory, NAME_TOO_LONG)
            elif child.kind == Kind.DIRECTORY:
                self._add_directory(info.path[self._cut :], child)
            elif child.name not in fixed:
                self._count(child, 1)
                checked[child.name] = child
        if checked:
            self._compare(directory, checked)

    def _add_fresh(
        self, directory: int, folder: str, infos: Iterable[ObjectInfo]
    ) -> list[ObjectInfo]:
        """The short way for plain files of a folder that this merge made; returns what else came.

        Nearly all of a first load goes through this loop, so it makes rows without a detour.
        """
        others: list[ObjectInfo] = []
        begin = self._cut + len(folder) + 1 if folder else self._cut
        entry_id, mount, new = self._writer.next_id, self._mount, self._new
        for info in infos:
            path, kind, size, mtime_ns, version, mode, _ = info
            name = path[begin:].encode("utf-8", "surrogateescape")
            if kind != Kind.FILE or not 0 < len(name) <= NAME_MAX:
                others.append(info)
                continue
            new.append((entry_id, directory, name, 1, size, mtime_ns, mode, None, version, mount))
            self.bytes += size
            entry_id += 1
        self.files += entry_id - self._writer.next_id
        self._writer.next_id = entry_id
        return others

    def _count(self, child: Child, number: int) -> None:
        if child.kind == Kind.FILE:
            self.files += number
            self.bytes += number * child.size

    def _new_row(self, directory: int, child: Child, ino: int | None) -> Row:
        return row_of(self._writer.take_ids(1), directory, child, ino, self._mount)

    def _compare(self, directory: int, children: dict[bytes, Child]) -> None:
        """Merges files with the rows that a folder had before."""
        known = rows.known_range(
            self._connection, directory, min(children), max(children), 4 * len(children) + 64
        )
        plan = Merge()
        for name, child in children.items():
            if known is None:  # names far apart: a directory of the machine lists in no order
                row = rows.known_child(self._connection, directory, name)
            else:
                row = known.get(name)
            if row is None:
                plan.added.append(child)
            elif row.kind != Kind.DIRECTORY:
                self._seen.add(row.id)
                compare(row, child, plan)
            elif row.id >= self._start or row.id in self._seen:
                self._clash(directory, child)
            else:
                self._deferred.append((directory, row, child))
        if plan.added or plan.replaced:
            self._changes.extend(self._writer.carry_out(directory, self._mount, plan))

    def _clash(self, directory: int, child: Child) -> None:
        self._count(child, -1)
        self._omit(directory, FILE_AND_FOLDER)

    def _insert_new(self) -> None:
        """Inserts files of folders that this merge made: nobody has their names, almost surely."""
        new, self._new = self._new, []
        if not new:
            return
        if rows.insert_free(self._connection, new) < len(new):
            new = self._resolve_taken(new)
        self._changes.added.extend([row[0] for row in new])

    def _resolve_taken(self, new: list[RowValues]) -> list[RowValues]:
        """Those that went in; the others are compared with what stands in their place."""
        went_in: list[RowValues] = []
        for values in new:
            row = Row._make(values)
            known = rows.known_child(self._connection, row.parent, row.name)
            if known is not None and known.id == row.id:
                went_in.append(values)
                continue
            child = Child(row.name, row.kind, row.size, row.mtime_ns, row.mode, row.version, None)
            self._compare(row.parent, {row.name: child})
        return went_in

    def _directory(self, folder: str) -> int | None:
        """The row of a folder, made if need be; None where another mount hides it."""
        if (known := self._folders.get(folder, 0)) != 0:
            return known
        if len(self._folders) > _REMEMBERED_FOLDERS:
            self._folders = {"": self._top}
        depth = folder.rfind("/")
        while depth > 0 and folder[:depth] not in self._folders:
            depth = folder.rfind("/", 0, depth)
        row = self._folders[folder[: max(depth, 0)]]
        for name in folder[depth + 1 :].split("/"):
            depth += 1 + len(name)
            row = None if row is None else self._enter(row, name.encode("utf-8", "surrogateescape"))
            self._folders[folder[:depth]] = row
        return row

    def _enter(self, parent: int, name: bytes) -> int | None:
        known = rows.known_child(self._connection, parent, name)
        if known is not None and known.id in self._foreign:
            return None
        if known is not None and known.kind == Kind.DIRECTORY:
            if known.id not in self._seen:
                self._note(known.id)
            return known.id
        if known is not None:
            if known.id >= self._start or known.id in self._seen:
                self._count(Child(*known[1:6], known.version, known.target), -1)
                self._omit(parent, FILE_AND_FOLDER)
            self._changes.removed.extend(
                rows.retire_tree(self._connection, known, self._writer.clock())
            )
        child = Child(name, Kind.DIRECTORY, 0, 0, None, b"", None)
        new = self._new_row(parent, child, None)
        rows.insert(self._connection, [new])
        self._changes.added.append(new.id)
        self._note(new.id)
        return new.id

    def _note(self, directory: int) -> None:
        self._seen.add(directory)
        if self._recursive:
            self._walked.append(directory)

    def _add_directory(self, folder: str, child: Child) -> None:
        """Keeps the time and mode of a folder that the source itself has."""
        directory = self._directory(folder)
        if directory is not None and child.mtime_ns:
            self._connection.execute(
                "UPDATE entry SET mtime_ns=:mtime_ns,mode=:mode"
                " WHERE id=:id AND (mtime_ns<>:mtime_ns OR mode IS NOT :mode)",
                {"mtime_ns": child.mtime_ns, "mode": child.mode, "id": directory},
            )

    def _listed_in(self, key: str) -> int:
        """The folder that a key which cannot be shown would be listed in, as far as it is known."""
        if not key.startswith(self._prefix_of(key)):
            return self._top
        parts = key[self._cut :].rstrip("/").split("/")[:-1]
        folder = ""
        for part in parts:
            deeper = f"{folder}/{part}" if folder else part
            if omission(deeper) is not None or self._folders.get(deeper) is None:
                break
            folder = deeper
        return self._folders.get(folder) or self._top

    def _prefix_of(self, key: str) -> str:
        return key[: self._cut]

    def _omit(self, directory: int, reason: str) -> None:
        if len(self.omitted) >= _REMEMBERED_OMISSIONS and (directory, reason) not in self.omitted:
            directory = self._top
        self.omitted[directory, reason] += 1

    def finish(self, listed_at: float) -> list[Changes]:
        """Removes what the listing did not name and marks its folders listed, in steps.

        Call it when the source has said that there is no more.
        """
        changes = [self._settle_deferred(), *self._sweep()]
        self._writer.mark_listed(self._walked, listed_at, self.omitted)
        self._writer.checkpoint()
        return changes

    def _settle_deferred(self) -> Changes:
        """Files where a folder was: the folder is gone unless the listing named something in it."""
        changes = Changes.none()
        with self._writer.transaction():
            for directory, known, child in self._deferred:
                if known.id in self._seen:
                    self._clash(directory, child)
                else:
                    plan = Merge(added=[child], removed=[known])
                    changes.extend(self._writer.carry_out(directory, self._mount, plan))
        return changes

    def _sweep(self) -> Iterator[Changes]:
        fixed = self._writer.composition.directories
        folders = [(self._top, False)]
        doomed_folders = array("q")
        doomed: list[int] = []
        while folders:
            folder, gone = folders.pop()
            for row_id, kind, mount in self._children(folder, all_of_them=gone):
                leaves = row_id not in fixed and (gone or row_id not in self._seen)
                if kind == Kind.DIRECTORY and mount == self._mount and (leaves or self._recursive):
                    folders.append((row_id, leaves))
                if leaves:
                    (doomed_folders if kind == Kind.DIRECTORY else doomed).append(row_id)
                if len(doomed) >= _SWEEP_STEP:
                    yield self._retire(doomed)
                    doomed = []
        doomed.extend(reversed(doomed_folders))  # folders after what lies in them
        for batch in rows.batches(doomed, _SWEEP_STEP):
            yield self._retire(batch)

    def _children(self, folder: int, *, all_of_them: bool) -> Iterator[tuple[int, int, int]]:
        """Children (from before this merge, or all), in steps, so that no statement stays open."""
        after = b""
        while True:
            found = self._connection.execute(
                "SELECT id,kind,mount,name FROM entry WHERE parent=? AND name>?"
                " AND retired_at IS NULL ORDER BY name LIMIT ?",
                (folder, after, _SWEEP_STEP),
            ).fetchall()
            for row_id, kind, mount, _ in found:
                if all_of_them or row_id < self._start:
                    yield row_id, kind, mount
            if len(found) < _SWEEP_STEP:
                return
            after = found[-1][3]

    def _retire(self, ids: list[int]) -> Changes:
        with self._writer.transaction() as connection:
            rows.retire(connection, ids, self._writer.clock())
            rows.forget_listings(connection, ids)
            self._writer.changed()
        return Changes([], [], ids)
