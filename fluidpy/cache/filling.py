"""Filling an object: reserve, write, commit, and giving back what was not used."""

from __future__ import annotations

from typing import Any

from fluidpy.cache.cache_file import CacheFile, storage_failure, sums_of, write_all
from fluidpy.cache.eviction import FileId
from fluidpy.cache.index_schema import CHUNK_BLOCKS
from fluidpy.cache.object_files import ObjectFiles, Part
from fluidpy.cache.presence import members
from fluidpy.errors import CacheError


class FillableObject(ObjectFiles):
    """The side of an object that its fetchers use.

    A block is in turn reserved, written, committed; what was reserved and is not committed is given
    back by `abandon`, after its writes have returned.
    """

    __slots__ = ()

    def reserve(self, start: int, end: int, copy: bool = False) -> None:
        """Takes room for the blocks of `[start, end)` that are neither present nor reserved.

        May evict other objects; for a `copy` of what another worker keeps, only copies. A file of
        which nothing but copies is kept is one. Raises CacheFullError (nothing is reserved then),
        CacheError.
        """
        table = self.table
        done: list[tuple[CacheFile, int]] = []
        with table.lock:
            try:
                for part in self.parts(start, end):
                    file = part.file
                    wanted = part.mask & ~(file.present | file.reserved)
                    need = file.bytes_of(wanted & ~file.garbage)
                    if wanted:
                        self.room.place(file, need, copy)
                        assert file.tier is not None
                        if file.copy != copy and not (copy and (file.present | file.reserved)):
                            self.set_copy(file, copy)
                        file.tier.account.reserve(need)
                        file.reserved |= wanted
                        done.append((file, wanted))
            except CacheError:
                for file, wanted in done:
                    self._give_back(file, wanted)
                raise
            finally:
                self.keep_active()
        table.announce()

    def keep_as(self, start: int, end: int, *, copy: bool) -> None:
        """From now on the files of `[start, end)` are copies of what another worker keeps, or not
        any more: as when workers come and go.
        """
        with self.table.lock:
            for part in self.parts(start, end):
                if part.file.copy != copy:
                    self.set_copy(part.file, copy)

    def set_copy(self, file: CacheFile, copy: bool) -> None:
        """Notes what a file is; under the store's lock."""
        file.copy = copy
        if file.on_disk and file.tier is not None:
            file_id = FileId(self.key, file.number)
            file.last_use = self.table.policy.add(file_id, file.tier.id, copy)
            if file.has_row or file.present:
                self.table.mark_dirty(self, file)

    def write(self, start: int, data: Any) -> None:
        """Writes reserved blocks: `start` at a block's begin, `data` whole blocks or up to the end.

        Does not make them readable; `commit` does. Thread-safe, and the interpreter's lock is free
        while bytes move. Raises CacheFullError when the disk is full, CacheError when it fails or
        the file was replaced meanwhile: the bytes are then served without being kept.
        """
        view = memoryview(data).cast("B")
        end = start + len(view)
        if start % self.block_bytes or (end % self.block_bytes and end != self.size):
            raise ValueError(f"write of {start}-{end} is not in whole blocks")
        for part in self.parts(start, end):
            begin = part.base + part.start - start
            self._write_part(part, view[begin : begin + part.end - part.start])

    def _write_part(self, part: Part, view: memoryview) -> None:
        table, file = self.table, part.file
        with table.lock:
            if part.mask & ~file.reserved:
                raise CacheError(
                    f"cache file {file.name}: a write without a reservation",
                    cure="Fetch the range again.",
                )
            descriptor = table.writer(self, file)
            descriptor.users += 1
            file.stamp = None
            file.written |= part.mask
            epoch = file.epoch
        try:
            write_all(descriptor.fd, view, part.start)
            sums = sums_of(view, self.block_bytes)
        except OSError as error:
            raise storage_failure(file.name, error) from error
        else:
            with table.lock:
                if file.epoch == epoch:
                    first = part.start // self.block_bytes
                    for block, value in enumerate(sums, first):
                        if file.reserved >> block & 1:
                            file.staged[block] = value
        finally:
            with table.lock:
                descriptor.users -= 1
                if self._leftovers:
                    self.settle()
        if file.epoch != epoch:
            raise self._replaced(file)

    def _replaced(self, file: CacheFile) -> CacheError:
        return CacheError(
            f"cache file {file.name} was replaced or not written whole while it was being filled",
            cure="Fetch the range again.",
        )

    def commit(self, start: int, end: int) -> None:
        """Makes written blocks readable, and queues their index row.

        Raises CacheError when a block of the range was not written to the file as it is now: the
        rest of the range is committed, that block's reservation given back.
        """
        table = self.table
        failed: CacheFile | None = None
        with table.lock:
            for part in self.parts(start, end):
                file = part.file
                new = part.mask & file.reserved
                ready = 0
                for block in members(new):
                    if block in file.staged:
                        ready |= 1 << block
                self._commit_blocks(file, ready)
                if new & ~ready:
                    self._give_back(file, new & ~ready)
                if part.mask & ~file.present:
                    failed = file
            self.keep_active()
        if failed is not None:
            table.announce()
            raise self._replaced(failed)

    def _commit_blocks(self, file: CacheFile, ready: int) -> None:
        if not ready:
            return
        table = self.table
        assert file.tier is not None
        sums = file.checksums()
        for block in members(ready):
            sums[block] = file.staged.pop(block)
            file.changed_chunks |= 1 << block // CHUNK_BLOCKS
        account = file.tier.account
        account.keep(file.bytes_of(ready & ~file.garbage))
        file.present |= ready
        file.reserved &= ~ready
        file.written &= ~ready
        file.garbage &= ~ready
        if file.surplus and file.full:
            account.kept -= file.surplus
            file.surplus = 0
        table.restamp(self, file)
        if file.on_disk:
            table.mark_dirty(self, file)

    def abandon(self, start: int, end: int) -> None:
        """Gives back what of `[start, end)` is reserved and not committed.

        Bytes already written stay on disk, and counted, until they are written again or the file
        leaves.
        """
        with self.table.lock:
            for part in self.parts(start, end):
                self._give_back(part.file, part.mask & part.file.reserved)
            self.keep_active()

    def _give_back(self, file: CacheFile, blocks: int) -> None:
        if not blocks or file.tier is None:
            return
        account = file.tier.account
        spoilt = blocks & file.written & ~file.garbage
        account.keep(file.bytes_of(spoilt))
        account.give_back(file.bytes_of(blocks & ~spoilt & ~file.garbage))
        file.garbage |= spoilt
        file.reserved &= ~blocks
        file.written &= ~blocks
        for block in members(blocks):
            file.staged.pop(block, None)
        if spoilt:
            self.table.restamp(self, file)
            if file.present:
                self.table.mark_dirty(self, file)
        self.drop_if_empty(file)
