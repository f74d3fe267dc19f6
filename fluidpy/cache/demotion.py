"""Moving files that a fast tier has no more room for to the next one, in a thread."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from fluidpy.cache.cache_file import (
    READ_BYTES,
    CacheFile,
    Tier,
    create_object,
    open_object,
    stamp_of,
    storage_failure,
    sums_of,
    write_all,
)
from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable
from fluidpy.errors import CacheError

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.cache.room import RoomMaker

_LOG = logging.getLogger(__name__)
_STOP_SECONDS: Final = 30.0


class Demotion:
    """One thread, started when a tier that is not the last passes its high mark.

    A file is copied with its checksums checked, the index switched to the copy and written, and
    only then the original unlinked: at every moment one of the two is the indexed one. Only where
    the index cannot be written the original goes all the same: it may lie on the very disk that is
    full. A crash then costs the file a fetch.
    """

    room: RoomMaker

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Asks for a round; called under the store's lock."""
        if self._stopped.is_set():
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="cache-demotion", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the block it is copying."""
        self._stopped.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopped.is_set():
                return
            for tier in self._table.tiers[:-1]:
                try:
                    self.lower(tier)
                except OSError as error:  # CacheError is one too
                    _LOG.warning("files cannot be moved from %s: %s",
                                 tier.definition.directory, error)  # fmt: skip

    def lower(self, tier: Tier) -> None:
        """Moves or drops files of a tier until it is at its low mark, or nothing may leave."""
        account = tier.account
        low = int(account.quota * tier.definition.low)
        while account.staying > low and not self._stopped.is_set():
            with self._table.lock:
                chosen = self._choose(tier)
                if chosen is None:
                    tier.evicting = False
                    return
            self._move(*chosen)
            self._table.announce()
        tier.evicting = False

    def _choose(self, tier: Tier) -> tuple[CachedObject, CacheFile, Tier] | None:
        """The next victim and where it goes; those that no tier takes are dropped on the way."""
        for file_id in self._table.policy.victims(tier.id):
            victim = self.room.victim(file_id, tier)
            if victim is None:
                continue
            owner, file = victim
            target = self._target(tier, file)
            if target is None:
                self._table.drop(owner, file)
                if tier.account.staying <= int(tier.account.quota * tier.definition.low):
                    return None
                continue
            target.account.reserve(file.kept_bytes)
            file.moving = True
            self._table.active[owner.key] = owner
            return owner, file, target
        return None

    def _target(self, tier: Tier, file: CacheFile) -> Tier | None:
        if not file.complete:
            return None
        need = file.kept_bytes
        for lower in self._table.tiers[tier.position + 1 :]:
            if need <= lower.account.quota // 2 and self.room.make_room(
                lower, need, copy=file.copy
            ):
                return lower
        return None

    def _move(self, owner: CachedObject, file: CacheFile, target: Tier) -> None:
        source, amount = file.tier, file.kept_bytes
        assert source is not None
        copied = -1
        try:
            copied = self._copy(file, source, target)
        except CacheError as error:
            _LOG.warning("cache file %s is dropped: %s", file.name, error)
        with self._table.lock:
            file.moving = False
            still_there = file.tier is source and file.on_disk and file.full
            try:
                if copied >= 0 and still_there and not owner.uses(file):
                    self._switch(owner, file, target, copied)
                    return
                target.account.give_back(amount)
                if copied >= 0:
                    _unlink(target, file.name)
                elif still_there and not self._stopped.is_set():
                    self._table.drop(owner, file)
            finally:
                if copied >= 0:
                    os.close(copied)
                owner.keep_active()

    def _copy(self, file: CacheFile, source: Tier, target: Tier) -> int:
        """A descriptor of the complete copy, or -1 when it was given up. Raises CacheError."""
        reading = open_object(source, file.name, os.O_RDONLY)
        writing = -1
        try:
            writing = create_object(target, file.name, file.length)
            if self._copy_blocks(file, reading, writing):
                return writing
            _unlink(target, file.name)
            os.close(writing)
        except OSError as error:
            if writing >= 0:
                _unlink(target, file.name)
                os.close(writing)
            if isinstance(error, CacheError):
                raise
            raise storage_failure(file.name, error) from error
        finally:
            os.close(reading)
        return -1

    def _copy_blocks(self, file: CacheFile, reading: int, writing: int) -> bool:
        sums = file.checksums()
        at_once = max(1, READ_BYTES // file.block_bytes)
        for first in range(0, file.blocks, at_once):
            begin = first * file.block_bytes
            want = min(at_once * file.block_bytes, file.length - begin)
            data = memoryview(os.pread(reading, want, begin))
            found = sums_of(data, file.block_bytes)
            if self._stopped.is_set() or len(data) != want:
                return False
            if found != list(sums[first : first + len(found)]):
                return False
            write_all(writing, data, begin)
        return True

    def _switch(self, owner: CachedObject, file: CacheFile, target: Tier, copied: int) -> None:
        table, source, amount = self._table, file.tier, file.kept_bytes
        assert source is not None
        table.close_descriptors(file)
        file.tier = target
        file.stamp = stamp_of(os.fstat(copied))
        file.serial = table.next_serial()
        file.generation = table.generation
        target.account.keep(amount)
        table.policy.remove(FileId(owner.key, file.number), source.id)
        table.mark_dirty(owner, file)
        try:
            table.flush()
        except CacheError as error:
            _LOG.warning("cache file %s was moved, which is noted later: %s", file.name, error)
        source.account.kept -= amount
        _unlink(source, file.name)
        source.account.freed_on_disk()
        if owner.key in table.leases:  # the original's bytes stay as long as somebody reads them
            owner.leave_behind(file, source.account, amount)
            table.gone.append(owner.key)


def _unlink(tier: Tier, name: str) -> None:
    """Takes a file's name away, if nobody else did."""
    try:
        os.unlink(name, dir_fd=tier.directory.objects)
    except FileNotFoundError:
        pass
    except OSError as error:
        _LOG.warning("cache file %s in %s cannot be removed: %s", name,
                     tier.definition.directory, error)  # fmt: skip
