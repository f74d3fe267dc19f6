"""The scrubber: reads complete files again and drops those whose bytes are no longer right."""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

from fluidpy.cache.cache_file import blocks_intact, open_object
from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable
from fluidpy.errors import CacheError

_LOG = logging.getLogger(__name__)


class ScrubReport(NamedTuple):
    """What one run read: files, bytes of them, the keys of damaged objects; `finished` when it
    came to the end of the store and begins anew next time.
    """

    files: int
    read_bytes: int
    damaged: tuple[bytes, ...]
    finished: bool


class Scrubber:
    """Goes through complete files in order of key, a budget of bytes at a time."""

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._after = FileId(b"", -1)

    def run(self, budget_bytes: int) -> ScrubReport:
        """Verifies whole files until the budget is used up (the last one may go beyond it)."""
        files = spent = 0
        damaged: list[bytes] = []
        while spent < budget_bytes:
            with self._table.lock:
                self._table.flush()
                page = self._table.index.page(self._after, 1, complete_only=True)
            if not page:
                self._after = FileId(b"", -1)
                return ScrubReport(files, spent, tuple(damaged), True)
            self._after = FileId(page[0].key, page[0].number)
            length, intact = self._verify(self._after)
            files += 1
            spent += length
            if not intact:
                damaged.append(self._after.key)
        return ScrubReport(files, spent, tuple(damaged), False)

    def _verify(self, file_id: FileId) -> tuple[int, bool]:
        table = self._table
        with table.lock:
            owner = table.find_cold(file_id.key)
            if owner is None:
                return 0, True
            file = owner.file_at(file_id.number)
            table.check(owner, file)
            if not file.full or file.tier is None or file.moving:
                return 0, True
            epoch, sums = file.epoch, file.checksums()
            try:
                fd = open_object(file.tier, file.name, os.O_RDONLY)
            except CacheError:
                table.drop(owner, file)
                return 0, False
        try:
            # What the medium holds is asked, not the pages in memory.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            intact = blocks_intact(fd, 0, file.blocks, file.length, file.block_bytes, sums)
        finally:
            os.close(fd)
        if not intact:
            with table.lock:
                if file.epoch == epoch and file.full:
                    wrong = file.blocks
                    _LOG.warning("cache file %s is damaged; its %d blocks are fetched again",
                                 file.name, wrong)  # fmt: skip
                    table.drop(owner, file)
        return file.length, intact
