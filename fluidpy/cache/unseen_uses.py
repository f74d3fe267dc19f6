"""Uses of cache files by processes that open them themselves, as the owner is told afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable

_QUEUED: Final = 2048
"""Times of use that wait to be written at most: some 10 ms of writing."""


def note_uses(table: FileTable, keys: Iterable[bytes]) -> None:
    """Notes a use now of these objects, each kept in one file. Raises CacheError."""
    with table.lock:
        for key in keys:
            used = table.policy.touch(FileId(key, 0))
            if (found := table.live.get(key)) is not None:
                found.file_at(0).last_use = used
        if table.index.queued_touches > _QUEUED:
            table.index.apply_touches()
