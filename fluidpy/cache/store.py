"""The store of one machine: objects in tiers, found, made, pinned, evicted, closed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fluidpy.cache.boot import boot_id
from fluidpy.cache.cache_file import Tier
from fluidpy.cache.cached_object import CachedObject
from fluidpy.cache.demotion import Demotion
from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable
from fluidpy.cache.index import FileRow, Index
from fluidpy.cache.presence import segment_bytes_for
from fluidpy.cache.reconciliation import ReconcileReport, Reconciliation
from fluidpy.cache.room import RoomMaker
from fluidpy.cache.scrubbing import Scrubber, ScrubReport
from fluidpy.cache.start_up import open_tiers, settle_start
from fluidpy.cache.tier import TierDefinition
from fluidpy.cache.unseen_uses import note_uses
from fluidpy.cache.whole_files import WholeFiles
from fluidpy.errors import CacheError, UsageError

_PAGE: Final = 1024
_LAST_NUMBER: Final = 1 << 62
"""Above the number of any segment."""


class TierUsage(NamedTuple):
    """What lies in a tier, in bytes: `used` = `kept` + `reserved` + `unlinked` (still held)."""

    directory: str
    medium: str
    quota_bytes: int
    used: int
    kept: int
    reserved: int
    unlinked: int


class ObjectStatus(NamedTuple):
    """One object as `cache ls` shows it: `size` its own, `disk_bytes` what is taken for it, `tiers`
    the directories its files lie in, `last_use` seconds since the epoch.
    """

    key: bytes
    size: int
    disk_bytes: int
    complete: bool
    pinned: bool
    tiers: tuple[str, ...]
    last_use: float


class BlockStore:
    """The one owner of the tiers' directories. Thread-safe; calls are short unless they say so.

    The owner calls `flush` every few tens of milliseconds while `dirty`, `reconcile` in the
    background after the start, `maintain` in a thread now and then, and `close` at the end.
    """

    def __init__(self, tiers: list[Tier], index: Index, block_bytes: int, token: str) -> None:
        self.block_bytes = block_bytes
        self.table = FileTable(tiers, index, block_bytes)
        self.table.object_of = lambda key, size, segment: CachedObject(
            self.table, self.room, key, size, segment
        )
        self._token = token
        self._demotion = Demotion(self.table)
        self.room = RoomMaker(self.table, self._demotion.wake)
        self._demotion.room = self.room
        self._reconciliation = Reconciliation(self.table)
        self._scrubber = Scrubber(self.table)
        self.whole = WholeFiles(self.table, self.room, self.create, self._smallest_quota)
        self._closed = False

    @classmethod
    def open(
        cls, tiers: Sequence[TierDefinition], *, block_bytes: int, clean_token: str = ""
    ) -> BlockStore:
        """Opens (or makes) the store in these directories, the fastest tier first.

        `clean_token` names the boot: with the same one, files that look as they did are trusted,
        with another everything is verified before use ("" = the kernel's boot id). Raises
        CacheDirectoryError for a directory that cannot be used, CacheError for an index that
        cannot be made; a lost or damaged index only means an empty cache.
        """
        if not tiers or block_bytes < 4096 or block_bytes & (block_bytes - 1):
            raise UsageError(
                f"a store of {len(tiers)} tiers with blocks of {block_bytes} bytes",
                cure="Give at least one tier, and a power of two from 4096 up.",
            )
        token = clean_token or boot_id()
        opened = open_tiers(tiers)
        index: Index | None = None
        try:
            index = Index(Path(tiers[0].directory) / "index.sqlite", block_bytes)
            settle_start(index, opened, token)
            store = cls(opened, index, block_bytes, token)
            store._shrink()
            return store
        except BaseException:
            if index is not None:
                index.abort()
            for tier in opened:
                tier.directory.close()
            raise

    # Objects.

    def get(self, key: bytes) -> CachedObject | None:
        """The object of which something is cached, None otherwise. Counts as a use.

        Looks at the file: one that somebody removed or cut is not there any more, one that
        somebody altered is `suspect`.
        """
        table = self.table
        with table.lock:
            found = table.hot.get(key)
            if found is not None:
                table.hot.move_to_end(key)
            else:
                found = table.find(key)
                if found is None:
                    return None
            if found.segment_bytes:
                present = found.on_disk or key in table.active
            else:
                file = found.file_at(0)
                table.check(found, file)
                present = file.on_disk
                if present:
                    file.last_use = table.policy.touch(FileId(key, 0))
                else:
                    present = key in table.active
        if table.gone:
            table.announce()
        return found if present else None

    def peek(self, key: bytes) -> CachedObject | None:
        """As `get`, without counting as a use and without looking at the file."""
        with self.table.lock:
            return self.table.find_cold(key)

    def create(self, key: bytes, size: int, longest_file: int = 0) -> CachedObject:
        """The object under `key`, made (without any bytes) where there is none.

        Takes no room before `reserve`. New files have `longest_file` bytes at most (0: any).
        Raises CacheError when the key names an object of another size that is in use.
        """
        if size < 0 or not key:
            raise ValueError(f"object of {size} bytes with a key of {len(key)} bytes")
        table = self.table
        with table.lock:
            found = self.get(key) or table.live.get(key)
            if found is not None and found.size != size:
                self._replace_by_size(found, size)
                found = None
            if found is None:
                segment = segment_bytes_for(
                    size, self._smallest_quota, self.block_bytes, longest_file
                )
                found = CachedObject(self.table, self.room, key, size, segment)
                found.pinned = table.index.is_pinned(key)
                table.remember(found)
            if not size and not found.on_disk:
                self._create_empty(found)
        return found

    def _replace_by_size(self, found: CachedObject, size: int) -> None:
        if found.key in self.table.active:
            raise CacheError(
                f"object {found.key.hex()} has {found.size} bytes in the cache and is in use, "
                f"{size} bytes were expected",
                cure="The source gave two sizes for one version; read it again later.",
            )
        self._drop_all(found)
        self.table.live.pop(found.key, None)
        self.table.hot.pop(found.key, None)

    def _create_empty(self, found: CachedObject) -> None:
        file = found.file_at(0)
        self.room.place(file, 0)
        self.table.writer(found, file)
        self.table.restamp(found, file)
        self.table.mark_dirty(found, file)

    def _drop_all(self, found: CachedObject) -> int:
        return sum(
            self.table.drop(found, file)
            for file in found.files()
            if not (file.reserved or file.users or file.moving)
        )

    def evict(self, key: bytes) -> int:
        """Drops an object, pinned or held too; returns the bytes that left.

        Parts that are being fetched or read this moment stay. Bytes that somebody holds count
        until he releases them.
        """
        with self.table.lock:
            found = self.table.find_cold(key)
            freed = self._drop_all(found) if found is not None else 0
        self.table.announce()
        return freed

    def lease(self, key: bytes, ino: int) -> bool:
        """Somebody reads the complete file with this inode number, in his own way and unseen.

        It may leave the cache all the same: `on_evict` tells, and its bytes count until
        `end_lease`. Counts as a use. False when the object's file is another one, or not complete.
        """
        table = self.table
        with table.lock:
            found = self.get(key)
            if found is None or found.segment_bytes or not found.complete:
                return False
            stamp = found.file_at(0).stamp
            if stamp is None or stamp.ino != ino:
                return False
            table.leases[key] = table.leases.get(key, 0) + 1
        return True

    def end_lease(self, key: bytes) -> None:
        """Ends one `lease`."""
        table = self.table
        with table.lock:
            left = table.leases.pop(key, 1) - 1
            if left:
                table.leases[key] = left
            elif (found := table.live.get(key)) is not None:
                found.settle()

    def is_leased(self, key: bytes) -> bool:
        """Whether a `lease` of the object has not ended; for any thread."""
        return key in self.table.leases

    def pin(self, key: bytes, on: bool) -> bool:
        """Keeps an object from eviction (or no longer); one not cached yet is pinned once it is.

        Returns whether that changes anything.
        """
        with self.table.lock:
            self.table.flush()
            changed = self.table.index.is_pinned(key) != on
            self.table.index.set_pinned(key, on)
            found = self.table.live.get(key)
            if found is not None:
                found.pinned = on
            return changed

    def objects(self, *, after: bytes = b"") -> Iterator[ObjectStatus]:
        """Every cached object in order of key, from the index; read in pages, so it may be slow
        to finish and others may change the store meanwhile.
        """
        directories = {tier.id: tier.definition.directory for tier in self.table.tiers}
        for key, group in itertools.groupby(self._rows(after), key=lambda row: row.key):
            rows = list(group)
            size, segment = rows[0].size, rows[0].segment
            files = max(1, -(-size // segment)) if segment else 1
            yield ObjectStatus(
                key,
                size,
                sum(row.disk_bytes for row in rows),
                len(rows) == files and all(row.complete for row in rows),
                bool(rows[0].pinned),
                tuple(sorted({directories.get(row.tier, "") for row in rows})),
                max(row.used for row in rows) / 1000,
            )

    def _rows(self, after: bytes) -> Iterator[FileRow]:
        table, position = self.table, FileId(after, _LAST_NUMBER)
        while True:
            with table.lock:
                table.flush()
                table.index.apply_touches()
                page = table.index.page(position, _PAGE)
            yield from page
            if not page:
                return
            position = FileId(page[-1].key, page[-1].number)

    def touch(self, keys: Iterable[bytes]) -> None:
        """Counts as uses of these objects, which others opened by themselves. Raises CacheError."""
        note_uses(self.table, keys)

    @property
    def index_path(self) -> Path:
        """The index, by which other processes of the user find complete files (`cached_files`)."""
        return self.table.index.path

    # The owner's duties.

    @property
    def dirty(self) -> int:
        """How many index changes wait for `flush`."""
        return len(self.table.dirty) + len(self.table.removed) + len(self.table.fresh)

    def flush(self) -> None:
        """Writes the queued index changes in one transaction. Raises CacheError; they stay then."""
        with self.table.lock:
            self.table.flush()

    @property
    def _smallest_quota(self) -> int:
        return min(tier.account.quota for tier in self.table.tiers)

    def maintain(self) -> None:
        """Moves the index's log into the index, and makes room down to the low marks. Slow: call
        it in a thread.
        """
        self.table.index.checkpoint()
        freed = 1
        while freed:
            with self.table.lock:
                freed = self.room.trim(self.table.tiers[-1])
            self.table.announce()

    def usage(self) -> list[TierUsage]:
        """What lies in each tier."""
        with self.table.lock:
            return [
                TierUsage(
                    tier.definition.directory,
                    tier.definition.medium,
                    tier.account.quota,
                    tier.account.used,
                    tier.account.kept,
                    tier.account.reserved,
                    tier.account.unlinked,
                )
                for tier in self.table.tiers
            ]

    def reconcile(self) -> ReconcileReport:
        """One step (a 256th) of the comparison of files and index; `done` with the last one.

        Removes files the index does not know, and rows whose files are gone.
        """
        report = self._reconciliation.step()
        self._shrink()
        self.table.announce()
        return report

    def _shrink(self) -> None:
        """Evicts what is above a quota that was lowered, or that leftovers of a crash overran."""
        with self.table.lock:
            for tier in self.table.tiers:
                if tier.account.used > tier.account.quota:
                    self.room.make_room(tier, 0)

    def scrub(self, budget_bytes: int) -> ScrubReport:
        """Verifies complete files, going on where the last call ended, until `budget_bytes` were
        read; damaged ones are dropped. Slow: call it in a thread.
        """
        report = self._scrubber.run(budget_bytes)
        self.table.announce()
        return report

    def drop_pages(self, key: bytes) -> None:
        """Asks the kernel to forget the pages of an object's files (after big writes)."""
        with self.table.lock:
            found = self.table.live.get(key)
            for file in found.files() if found is not None else ():
                if file.on_disk:
                    self.table.drop_pages(file)

    @property
    def on_evict(self) -> list[Callable[[bytes], None]]:
        """Called with the key of each object that lost bytes, in the thread that dropped them,
        without any lock of the store.
        """
        return self.table.listeners

    def close(self) -> None:
        """Writes everything, and marks a clean stop unless something is still being written."""
        if self._closed:
            return
        self._closed = True
        self._demotion.stop()
        table = self.table
        with table.lock, contextlib.ExitStack() as stack:
            for tier in table.tiers:
                stack.callback(tier.directory.close)
            for file in list(table.open_files):
                stack.callback(table.close_descriptors, file)
            stack.callback(table.index.close)
            table.flush()
            table.index.apply_touches()
            table.index.set_meta("clean", self._token)

    def __enter__(self) -> BlockStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
