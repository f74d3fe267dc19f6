"""What is cached of one Dataset and how large it is: counted now and then, cheap to be asked for.

Several Datasets may share a store, whose index knows keys only. So the files of the catalog are
looked up in the index: 13 µs of CPU a file, in a thread, when something changed, and so seldom that
it takes a twentieth of a core at most. Between two counts what was fetched meanwhile is added.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fluidpy.cache.cached_sizes import CachedSizes
from fluidpy.client.protocol import Message
from fluidpy.errors import FluidpyError
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.object_keys import KeySource, ObjectKeys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fluidpy.worker.attached_dataset import AttachedDataset

_log = logging.getLogger(__name__)

COUNT_SECONDS: Final = 2.0
"""Time between two counts at least."""

COUNT_SHARE: Final = 20
"""A count that took a second is not repeated for this many."""

FILES_A_PAGE: Final = 256
"""Files looked up at once; the thread lets others run between two pages."""


_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="count")
"""Counts one Dataset after the other, and leaves the loop's own threads to those who wait."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One count: bytes cached, files and bytes of the tree, and whether all of it is known."""

    cached_bytes: int = 0
    files: int = 0
    bytes: int = 0
    complete: bool = False


class _Marker(NamedTuple):
    """What a count depends on: the same marker, the same count."""

    catalog: str
    generation: int
    kept: tuple[int, ...]
    fetched: int
    moved: int


class CachedCounts:
    """The counts of one Dataset; for the event loop's thread."""

    def __init__(self, dataset: AttachedDataset) -> None:
        """Counts nothing yet."""
        self._dataset = dataset
        self._counted = Counted()
        self._marker: _Marker | None = None
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()

    async def settle(self, seconds: float) -> None:
        """Starts a count if one is due; waits for the very first one, `seconds` at most."""
        if self._task is None and time.monotonic() >= self._due and not self._stop.is_set():
            if self._marker == self._now():
                return
            self._task = asyncio.create_task(self._count())
        if self._task is not None and self._marker is None:
            await asyncio.wait({self._task}, timeout=seconds)

    def to_wire(self) -> Message:
        """The last count, with what was fetched since, and the tiers that the Dataset uses."""
        counted = self._counted
        usage = self._dataset.store.usage()
        room = sum(tier.kept for tier in usage)
        since = self._fetched() - self._marker.fetched if self._marker is not None else 0
        definitions = {tier.definition.directory: tier.definition
                       for tier in self._dataset.store.table.tiers}  # fmt: skip
        return {
            "cached_bytes": min(counted.cached_bytes + max(0, since), room),
            "totals": {
                "files": counted.files,
                "bytes": counted.bytes,
                "complete": counted.complete,
            },
            "tiers": [
                {
                    "directory": tier.directory,
                    "quota_bytes": tier.quota_bytes,
                    "used_bytes": tier.used,
                    "low": definitions[tier.directory].low,
                    "high": definitions[tier.directory].high,
                }
                for tier in usage
            ],
        }

    def stop(self) -> None:
        """Counts no more; a count under way ends within a page."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()

    def resume(self) -> None:
        """The Dataset was defined anew: what was counted is of the old one."""
        self._stop = threading.Event()
        self._marker = None
        self._counted = Counted()
        self._due = 0.0

    def _fetched(self) -> int:
        """Bytes fetched to be kept; what comes from another worker is mostly kept as a copy."""
        counters = self._dataset.counters
        return counters.bytes_from_source - counters.bytes_not_kept

    def _now(self) -> _Marker:
        dataset = self._dataset
        return _Marker(
            str(dataset.namespace.catalog_path),
            dataset.namespace.reader.generation(),
            tuple(tier.kept for tier in dataset.store.usage()),
            self._fetched(),
            dataset.counters.bytes_from_former_owner,
        )

    async def _count(self) -> None:
        dataset, begin = self._dataset, time.monotonic()
        try:
            marker = self._now()
            dataset.store.flush()
            self._counted = await asyncio.get_running_loop().run_in_executor(
                _THREAD,
                _scan,
                dataset.namespace.catalog_path,
                dataset.namespace.key_sources(),
                dataset.store.index_path,
                self._stop,
            )
            self._marker = marker
        except FluidpyError as error:  # the last count stands; the next one tries again
            dataset.counters.count_error(type(error).__name__)
            _log.warning("Dataset %s: not counted: %s", dataset.definition.key, error)
        finally:
            took = time.monotonic() - begin
            self._due = time.monotonic() + max(COUNT_SECONDS, COUNT_SHARE * took)
            self._task = None


def _scan(
    catalog: Path, sources: Sequence[KeySource], index: Path, stop: threading.Event
) -> Counted:
    reader = CatalogReader(catalog)
    try:
        complete = reader.is_whole()
        keys, after, cached, files, size = ObjectKeys(reader, sources), 0, 0, 0, 0
        with CachedSizes(index) as sizes:
            while (page := reader.files(after, FILES_A_PAGE)) and not stop.is_set():
                found = {key: file.size for file in page if (key := keys.key_of(file))}
                cached += sizes.bytes_of(found) if found else 0
                files += len(page)
                size += sum(file.size for file in page)
                after = page[-1].id
                time.sleep(0)
    finally:
        reader.close()
    return Counted(cached, files, size, complete)
