"""Uses of cache files by processes that open them themselves, as the owner is told afterwards."""

from __future__ import annotations

from collections.abc import Iterable

from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable


def note_uses(table: FileTable, keys: Iterable[bytes]) -> None:
    """Notes a use now of these objects, each kept in one file."""
    with table.lock:
        for key in keys:
            used = table.policy.touch(FileId(key, 0))
            if (found := table.live.get(key)) is not None:
                found.file_at(0).last_use = used
        table.index.apply_many_touches()
