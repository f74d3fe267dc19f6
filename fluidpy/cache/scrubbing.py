"""The scrubber: reads complete files again and drops those whose bytes are no longer right."""

from __future__ import annotations

import errno
import logging
import mmap
import os
from array import array
from typing import NamedTuple

from fluidpy.cache.cache_file import READ_BYTES, Tier, blocks_intact, open_object, sums_of
from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable
from fluidpy.errors import CacheError

_LOG = logging.getLogger(__name__)


class ScrubReport(NamedTuple):
    """What one run read: files to their end, bytes, the keys of damaged objects; `finished` when it
    came to the end of the store and begins anew next time.
    """

    files: int
    read_bytes: int
    damaged: tuple[bytes, ...]
    finished: bool


class _Verified(NamedTuple):
    """A part of a file: bytes read, whether they were right, the block to go on with or None."""

    read_bytes: int
    intact: bool
    next_block: int | None


_NOTHING = _Verified(0, True, None)


class Scrubber:
    """Goes through complete files in order of key, a budget of bytes at a time.

    A large file is gone through in several runs. The medium is read past the pages in memory, which
    stay as they are: readers who have them by mmap or passthrough are not slowed down.
    """

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._after = FileId(b"", -1)
        self._begun: tuple[FileId, int] | None = None

    def run(self, budget_bytes: int) -> ScrubReport:
        """Verifies blocks until the budget is used up (the last one may go beyond it)."""
        files = spent = 0
        damaged: list[bytes] = []
        while spent < budget_bytes:
            with self._table.lock:
                self._table.flush()
                page = self._table.index.page(self._after, 1, complete_only=True)
            if not page:
                self._after = FileId(b"", -1)
                return ScrubReport(files, spent, tuple(damaged), True)
            file_id = FileId(page[0].key, page[0].number)
            begun, self._begun = self._begun, None
            first = begun[1] if begun is not None and begun[0] == file_id else 0
            found = self._verify(file_id, first, budget_bytes - spent)
            spent += found.read_bytes
            if not found.intact:
                damaged.append(file_id.key)
            if found.next_block is not None:
                self._begun = (file_id, found.next_block)
                break
            self._after = file_id
            files += 1
        return ScrubReport(files, spent, tuple(damaged), False)

    def _verify(self, file_id: FileId, first: int, budget_bytes: int) -> _Verified:
        table = self._table
        with table.lock:
            owner = table.find_cold(file_id.key)
            if owner is None:
                return _NOTHING
            file = owner.file_at(file_id.number)
            table.check(owner, file)
            if not file.full or file.tier is None or file.moving:
                return _NOTHING
            last = min(file.blocks, first + max(1, budget_bytes // file.block_bytes))
            epoch, sums = file.epoch, file.checksums()[first:last]
            try:
                fd, direct = _open_past_pages(file.tier, file.name)
            except CacheError:
                table.drop(owner, file)
                return _Verified(0, False, None)
        try:
            verify = _direct_blocks_intact if direct else blocks_intact
            intact = verify(fd, first, last, file.length, file.block_bytes, sums)
        finally:
            os.close(fd)
        read = max(0, min(last * file.block_bytes, file.length) - first * file.block_bytes)
        if not intact:
            with table.lock:
                if file.epoch == epoch and file.full:
                    wrong = file.blocks
                    _LOG.warning("cache file %s is damaged; its %d blocks are fetched again",
                                 file.name, wrong)  # fmt: skip
                    table.drop(owner, file)
            return _Verified(read, False, None)
        return _Verified(read, True, last if last < file.blocks else None)


def _open_past_pages(tier: Tier, name: str) -> tuple[int, bool]:
    """A descriptor that reads the medium, and whether by O_DIRECT; else its pages are let go."""
    try:
        return open_object(tier, name, os.O_RDONLY | os.O_DIRECT), True
    except CacheError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EINVAL:
            raise
    fd = open_object(tier, name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd, False


def _direct_blocks_intact(
    fd: int, first: int, last: int, length: int, block_bytes: int, expected: array[int]
) -> bool:
    """`blocks_intact` for O_DIRECT, which wants memory, offsets and sizes aligned to pages."""
    at_once = max(1, READ_BYTES // block_bytes)
    room = min(at_once, max(1, last - first)) * block_bytes
    with mmap.mmap(-1, room) as memory, memoryview(memory) as view:
        for begin in range(first, last, at_once):
            end = min(begin + at_once, last)
            want = min(end * block_bytes, length) - begin * block_bytes
            with view[: (end - begin) * block_bytes] as target:
                try:
                    got = os.preadv(fd, [target], begin * block_bytes)
                except OSError:
                    return False
            if got != want:
                return False
            with view[:want] as data:
                found = sums_of(data, block_bytes)
            if array("I", found) != expected[begin - first : end - first]:
                return False
    return True
