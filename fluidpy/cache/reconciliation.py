"""Files without rows leave, rows without files leave: the store agrees with its index again."""

from __future__ import annotations

import logging
import os
import re
from typing import Final, NamedTuple

from fluidpy.cache.cache_file import Tier
from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable
from fluidpy.cache.index import FileRow

_LOG = logging.getLogger(__name__)
_NAME: Final = re.compile(r"((?:[0-9a-f]{2})+)(?:\.([0-9]+))?\Z")
_PAGE: Final = 4096
_STEPS: Final = 256


class ReconcileReport(NamedTuple):
    """What one step did; `done` once the whole store was compared."""

    done: bool
    removed_files: int
    forgotten_rows: int


def parse_name(name: str) -> FileId | None:
    """The file that a name in an `objects/ab` folder stands for; None for a foreign one."""
    found = _NAME.match(name)
    return FileId(bytes.fromhex(found[1]), int(found[2] or 0)) if found else None


class Reconciliation:
    """Goes through the 256 folders of every tier, one a step, under the store's lock for as long
    as a folder takes (some milliseconds at a million files).
    """

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._next = 0

    def step(self) -> ReconcileReport:
        """Compares one folder of every tier."""
        if self._next >= _STEPS:
            return ReconcileReport(True, 0, 0)
        with self._table.lock:
            self._table.flush()
            rows = self._rows(self._next)
            names = [self._names(tier, self._next) for tier in self._table.tiers]
            removed = sum(
                self._remove_orphans(tier, found, rows)
                for tier, found in zip(self._table.tiers, names, strict=True)
            )
            forgotten = self._forget_missing(rows, names)
            if self._table.index.unclean:
                self._count_leftovers(rows)
        self._next += 1
        return ReconcileReport(self._next >= _STEPS, removed, forgotten)

    def _rows(self, folder: int) -> dict[FileId, FileRow]:
        found: dict[FileId, FileRow] = {}
        after = FileId(bytes([folder]), -1)
        below = bytes([folder + 1]) if folder < 255 else None
        while page := self._table.index.page(after, _PAGE, below=below):
            found.update((FileId(row.key, row.number), row) for row in page)
            after = FileId(page[-1].key, page[-1].number)
        return found

    def _names(self, tier: Tier, folder: int) -> set[str]:
        """The names in a folder."""
        try:
            fd = os.open(f"{folder:02x}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
                         dir_fd=tier.directory.objects)  # fmt: skip
        except OSError:
            return set()
        try:
            with os.scandir(fd) as entries:
                return {entry.name for entry in entries}
        finally:
            os.close(fd)

    def _remove_orphans(self, tier: Tier, names: set[str], rows: dict[FileId, FileRow]) -> int:
        removed = 0
        for name in names:
            file_id = parse_name(name)
            if file_id is not None:
                row = rows.get(file_id)
                if (row is not None and row.tier == tier.id) or self._is_live(file_id, tier):
                    continue
            path = f"{name[:2]}/{name}" if file_id is not None else None
            removed += self._unlink(tier, path, name)
        return removed

    def _is_live(self, file_id: FileId, tier: Tier) -> bool:
        owner = self._table.live.get(file_id.key)
        if owner is None:
            return False
        file = owner.file_at(file_id.number)
        return file.moving or (file.on_disk and file.tier is tier)

    def _unlink(self, tier: Tier, path: str | None, name: str) -> int:
        if path is None:
            _LOG.warning("%s/objects holds a foreign file, %s; it is left alone",
                         tier.definition.directory, name)  # fmt: skip
            return 0
        try:
            os.unlink(path, dir_fd=tier.directory.objects)
        except OSError as error:
            _LOG.warning("cache file %s in %s cannot be removed: %s", path,
                         tier.definition.directory, error.strerror)  # fmt: skip
            return 0
        tier.account.freed_on_disk()
        return 1

    def _count_leftovers(self, rows: dict[FileId, FileRow]) -> None:
        """Counts what partial files hold beyond their rows: writes that a crash left unindexed."""
        for file_id, row in rows.items():
            owner = None if row.complete else self._table.find_cold(file_id.key)
            if owner is None:
                continue
            file = owner.file_at(file_id.number)
            facts = file.stat() if file.on_disk and not owner.uses(file) else None
            if facts is None or file.tier is None or file.full:
                continue
            surplus = max(0, facts.st_blocks * 512 - file.bytes_of(file.present | file.garbage))
            if surplus != file.surplus:
                file.tier.account.kept += surplus - file.surplus
                file.surplus = surplus
                self._table.mark_dirty(owner, file)

    def _forget_missing(self, rows: dict[FileId, FileRow], names: list[set[str]]) -> int:
        by_id = {tier.id: found for tier, found in zip(self._table.tiers, names, strict=True)}
        forgotten = 0
        for file_id, row in rows.items():
            name = file_id.key.hex() + (f".{file_id.number}" if row.segment else "")
            if name in by_id.get(row.tier, set()):
                continue
            owner = self._table.find_cold(file_id.key)
            if owner is not None:
                file = owner.file_at(file_id.number)
                if not file.moving and file.on_disk and file.stat() is None:
                    self._table.drop(owner, file)
                    forgotten += 1
        return forgotten
