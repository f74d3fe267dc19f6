"""The live files of a store: loaded from the index, opened, checked, dropped and written back.

Everything here runs under the store's lock, and does only short calls on files.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from fluidpy.cache.cache_file import (
    CacheFile,
    Descriptor,
    Stamp,
    Tier,
    create_object,
    open_object,
    stamp_of,
)
from fluidpy.cache.eviction import Candidate, EvictionPolicy, FileId, LeastRecentlyUsed, noted_use
from fluidpy.cache.index import ChunkRow, FileRow, Index, log_limit, pack_blocks, unpack_blocks
from fluidpy.cache.index_schema import CHUNK_BLOCKS
from fluidpy.cache.presence import range_mask
from fluidpy.errors import CacheError, CacheFullError

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.object_files import ObjectFiles

_LOG = logging.getLogger(__name__)
HOT_OBJECTS: Final = 8192
"""Objects kept in memory (about 1 KiB each) beyond those in use; the others are in the index."""
OPEN_FILES: Final = 4096
"""Cache files kept open (about 1 KiB of the kernel's memory each): opening one again costs 5 µs."""
_TOUCHES: Final = 16384


def descriptor_limit() -> int:
    """How many cache files may be open at once: half the process's limit, OPEN_FILES at most."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return OPEN_FILES if soft == resource.RLIM_INFINITY else max(16, min(OPEN_FILES, soft // 2))


class FileTable:
    """Objects in memory, the index behind them, and the descriptors that are open."""

    def __init__(self, tiers: Sequence[Tier], index: Index, block_bytes: int) -> None:
        self.lock = threading.RLock()
        self.tiers = list(tiers)
        self.index = index
        self.block_bytes = block_bytes
        self.generation = int(index.get_meta("generation") or 1)
        self.policy: EvictionPolicy = LeastRecentlyUsed(self)
        self.live: WeakValueDictionary[bytes, CachedObject] = WeakValueDictionary()
        self.hot: OrderedDict[bytes, CachedObject] = OrderedDict()
        self.active: dict[bytes, ObjectFiles] = {}
        self.dirty: dict[FileId, ObjectFiles] = {}
        self.fresh: dict[bytes, FileRow] = {}
        """Rows of files written whole that the index has not yet, and that nobody asked for."""
        self.removed: set[FileId] = set()
        self.open_files: OrderedDict[CacheFile, ObjectFiles] = OrderedDict()
        self.open_limit = descriptor_limit()
        self.gone: list[bytes] = []
        self.leases: dict[bytes, int] = {}  # see `BlockStore.lease`
        self.listeners: list[Callable[[bytes], None]] = []
        self.object_of: Callable[[bytes, int, int], CachedObject]
        self.log_limit = log_limit(tiers[0].directory.objects)
        self._serial = 0
        self._by_id = {tier.id: tier for tier in tiers}

    # The order of eviction lies in the index (`eviction.UseOrder`).

    def oldest(self, tier: int, limit: int, copies: bool) -> list[Candidate]:
        """The files of a tier used longest ago, all that is queued taken into account."""
        try:
            self.flush()
            self.index.apply_touches()
        except CacheError as error:  # a full disk: files have to leave before it can be written
            _LOG.warning("files are evicted in an older order: %s", error.message)
        return self.index.oldest(tier, limit, copies)

    def touch(self, file: FileId, last_use: int) -> None:
        """Queues a time of last use."""
        self.index.touch(file, last_use)

    def find(self, key: bytes) -> CachedObject | None:
        """The object in memory or in the index; not checked against its files."""
        found = self.live.get(key) or self._load(key)
        if found is not None:
            self.remember(found)
        return found

    def find_cold(self, key: bytes) -> CachedObject | None:
        """As `find`, without counting as a use: for eviction and scans."""
        found = self.live.get(key)
        if found is None:
            found = self._load(key)
            if found is not None:
                self.live[key] = found
        return found

    def remember(self, found: CachedObject) -> None:
        """Keeps the object in memory as the one used last."""
        key = found.key
        if key in self.hot:
            self.hot.move_to_end(key)
            return
        self.live[key] = found
        self.hot[key] = found
        if len(self.hot) > HOT_OBJECTS:
            self.hot.popitem(last=False)

    def _load(self, key: bytes) -> CachedObject | None:
        if (fresh := self.fresh.pop(key, None)) is not None:
            return self._load_fresh(fresh)
        rows = [
            row
            for row in self.index.rows_of(key)
            if (key, row.number) not in self.removed and row.tier in self._by_id
        ]
        if not rows:
            return None
        loaded = self.object_of(key, rows[0].size, rows[0].segment)
        for row in rows:
            self._fill(loaded.file_at(row.number), row)
        loaded.pinned = bool(rows[0].pinned)
        return loaded

    def _load_fresh(self, row: FileRow) -> CachedObject:
        """The object of a row that is not written yet: it waits with the other changes now."""
        loaded = self.object_of(row.key, row.size, row.segment)
        file = loaded.file_at(row.number)
        self._fill(file, row)
        file.has_row, file.checked = False, True
        loaded.pinned = bool(row.pinned)
        self.mark_dirty(loaded, file)
        return loaded

    def _fill(self, file: CacheFile, row: FileRow) -> None:
        file.tier = self._by_id[row.tier]
        file.on_disk = file.has_row = True
        file.generation, file.last_use, file.copy = row.generation, row.used, row.is_copy
        file.stamp = Stamp(row.ino, row.ctime, row.mtime)
        file.checked = False
        file.serial = self.next_serial()
        if row.blocks is not None:
            file.present, file.sums = unpack_blocks(row.blocks, file.blocks)
        elif file.blocks:
            sums = file.checksums()
            for chunk in self.index.chunks_of(FileId(row.key, row.number)):
                begin = chunk.chunk * CHUNK_BLOCKS
                count = min(CHUNK_BLOCKS, file.blocks - begin)
                mask, part = unpack_blocks(chunk.blocks, count)
                file.present |= mask << begin
                sums[begin : begin + count] = part
        file.surplus = max(0, row.disk_bytes - file.kept_bytes)

    def next_serial(self) -> int:
        """A number for a file that no other file of this process has or had."""
        self._serial += 1
        return self._serial

    # Files.

    def check(self, owner: ObjectFiles, file: CacheFile) -> None:
        """Compares the file with its stamp: altered → unverified, gone or cut → dropped.

        Two microseconds; done at each use, so that nobody is served what somebody else wrote.
        """
        if not file.on_disk or (file.stamp is None and file.checked):
            return
        facts = file.stat()
        if facts is None or facts.st_size != file.length:
            self.drop(owner, file)
            return
        now = stamp_of(facts)
        expected = file.stamp
        if now == expected and (file.checked or file.generation == self.generation):
            file.checked = True
            return
        if file.checked and expected is not None and now.ino != expected.ino:
            self.drop(owner, file)
            return
        file.checked = True
        file.stamp = now
        file.unverified = file.present

    def writer(self, owner: ObjectFiles, file: CacheFile) -> Descriptor:
        """The file open for writing, created when it is not there. Raises CacheError."""
        if file.writer is not None and file.stamp is not None:
            self._recheck_open(owner, file, file.writer)
        elif file.writer is None:
            self.check(owner, file)
        if file.tier is None:
            raise CacheError(
                f"cache file {file.name} was removed by another program",
                cure="Fetch the range again; leave the cache directory to fluidpy.",
            )
        if file.writer is None:
            file.writer = file.open(os.O_RDWR) if file.on_disk else self._create(owner, file)
            self._opened(owner, file)
        return file.writer

    def _recheck_open(self, owner: ObjectFiles, file: CacheFile, writer: Descriptor) -> None:
        facts = os.fstat(writer.fd)
        if facts.st_nlink == 0 or facts.st_size != file.length:
            self.drop(owner, file)
        elif stamp_of(facts) != file.stamp:
            file.unverified = file.present
            file.stamp = stamp_of(facts)

    def _create(self, owner: ObjectFiles, file: CacheFile) -> Descriptor:
        assert file.tier is not None
        if FileId(owner.key, file.number) in self.removed:
            self.flush()  # the index must not describe the old file once the new one is there
        descriptor = Descriptor(create_object(file.tier, file.name, file.length))
        file.on_disk = file.checked = True
        file.generation = self.generation
        file.serial = self.next_serial()
        file.last_use = self.policy.add(FileId(owner.key, file.number), file.tier.id, file.copy)
        return descriptor

    def reader(self, owner: ObjectFiles, file: CacheFile, checked: bool = False) -> Descriptor:
        """The file open for reading only, created when it is not there. Raises CacheError."""
        if not checked:
            self.check(owner, file)
        if file.reader is None:
            if not file.on_disk:
                self.writer(owner, file)
                self.restamp(owner, file)
            file.reader = file.open(os.O_RDONLY)
        self._opened(owner, file)
        return file.reader

    def _opened(self, owner: ObjectFiles, file: CacheFile) -> None:
        self.open_files[file] = owner
        self.open_files.move_to_end(file)
        tries = 8
        while len(self.open_files) > self.open_limit and tries:
            tries -= 1
            oldest, its_owner = next(iter(self.open_files.items()))
            if oldest is file or its_owner.uses(oldest):
                self.open_files.move_to_end(oldest)
            else:
                self.close_descriptors(oldest)

    def close_descriptors(self, file: CacheFile) -> None:
        """Closes what is open of a file that nobody uses."""
        for descriptor in (file.reader, file.writer):
            if descriptor is not None:
                descriptor.close()
        file.reader = file.writer = None
        self.open_files.pop(file, None)

    def drop_pages(self, file: CacheFile) -> None:
        """Asks the kernel to forget the file's pages."""
        assert file.tier is not None
        fd = open_object(file.tier, file.name, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def restamp(self, owner: ObjectFiles, file: CacheFile) -> None:
        """Takes the stamp after our own writes, as soon as no other write is under way.

        A change by somebody else between two of our own writes cannot be told from them, unless it
        removed or cut the file: then the file is dropped.
        """
        writer = file.writer
        if writer is None or writer.users or not file.on_disk:
            return
        facts = os.fstat(writer.fd)
        if facts.st_nlink == 0 or facts.st_size != file.length:
            self.drop(owner, file)
            return
        file.stamp = stamp_of(facts)
        if file.full:
            writer.close()
            file.writer = None
            if file.reader is None:
                self.open_files.pop(file, None)

    def drop(self, owner: ObjectFiles, file: CacheFile) -> int:
        """The file leaves, whole; returns its bytes. Held ones count until they are released."""
        freed = file.kept_bytes
        had_content = file.present != 0
        tier = file.tier
        if not file.on_disk or tier is None:
            return 0
        try:
            os.unlink(file.name, dir_fd=tier.directory.objects)
        except FileNotFoundError:
            pass
        except OSError as error:
            _LOG.warning("cache file %s in %s cannot be removed: %s", file.name,
                         tier.definition.directory, error)  # fmt: skip
        self.detach(owner, file, freed)
        if had_content:
            self.gone.append(owner.key)
        return freed

    def detach(self, owner: ObjectFiles, file: CacheFile, freed: int) -> None:
        """Settles account and index for a file that was unlinked."""
        tier = file.tier
        assert tier is not None
        file_id = FileId(owner.key, file.number)
        tier.account.kept -= freed
        tier.account.freed_on_disk()
        # Reserved blocks stay reserved, except those whose room went with the file.
        file.reserved &= ~file.garbage
        owner.leave_behind(file, tier.account, freed)
        self.open_files.pop(file, None)
        self.dirty.pop(file_id, None)
        if file.has_row:
            self.removed.add(file_id)
        self.policy.remove(file_id, tier.id)
        file.forget_content()
        if not file.reserved:
            file.tier = None

    # Writing back.

    def mark_dirty(self, owner: ObjectFiles, file: CacheFile) -> None:
        """Queues the file's row."""
        self.dirty[FileId(owner.key, file.number)] = owner

    def _rows(self, file_id: FileId, owner: ObjectFiles) -> tuple[FileRow, list[ChunkRow]]:
        file = owner.file_at(file_id.number)
        assert file.tier is not None
        stamp = file.stamp if file.stamp is not None and file.checked else Stamp(0, 0, 0)
        small = file.blocks <= CHUNK_BLOCKS
        blocks = pack_blocks(file.present, file.checksums()) if small else None
        row = FileRow(
            file_id.key, file_id.number, owner.size, owner.segment_bytes, file.tier.id,
            file.kept_bytes, int(file.full), *stamp, 0 if file.unverified else file.generation,
            int(owner.pinned), noted_use(file.last_use, file.copy), blocks,
        )  # fmt: skip
        return row, [] if small else self._chunk_rows(file_id, file)

    def _chunk_rows(self, file_id: FileId, file: CacheFile) -> list[ChunkRow]:
        rows = []
        sums = file.checksums()
        for chunk in range(-(-file.blocks // CHUNK_BLOCKS)):
            if file.changed_chunks >> chunk & 1:
                begin = chunk * CHUNK_BLOCKS
                part = sums[begin : begin + CHUNK_BLOCKS]
                mask = file.present >> begin & range_mask(0, len(part))
                rows.append(ChunkRow(*file_id, chunk, pack_blocks(mask, part)))
        return rows

    def flush(self) -> None:
        """Writes queued rows in one transaction. Raises CacheError; the queue stays then."""
        if self.dirty or self.removed or self.fresh:
            files, chunks = list(self.fresh.values()), []
            for file_id, owner in self.dirty.items():
                row, its_chunks = self._rows(file_id, owner)
                files.append(row)
                chunks += its_chunks
            self.index.apply(self.removed, files, chunks)
            for file_id, owner in self.dirty.items():
                file = owner.file_at(file_id.number)
                file.has_row = True
                file.changed_chunks = 0
            self.removed.clear()
            self.dirty.clear()
            self.fresh.clear()
        if self.index.queued_touches > _TOUCHES:
            self.index.apply_touches()
        self.tiers[0].account.freed_on_disk()  # the log grew: the disk is asked again
        if self.index.log_bytes() > self.log_limit:
            self.index.checkpoint()

    def announce(self) -> None:
        """Tells the listeners which objects lost bytes; called without the lock."""
        while self.gone:
            try:
                key = self.gone.pop()
            except IndexError:  # another thread has told the last one
                return
            for listener in self.listeners:
                listener(key)

    def full_error(self, need: int) -> CacheFullError:
        """The error for `need` bytes that do not fit."""
        tiers = ", ".join(
            f"{t.definition.directory} ({t.account.used} of {t.account.quota} bytes used)"
            for t in self.tiers
        )
        return CacheFullError(
            f"no room for {need} bytes in the cache: {tiers}; nothing more may be evicted",
            cure="Raise the quota, unpin files, or close files that are held open.",
        )
