"""Loads: bring many files into the cache as fast as source and disk allow.

A load keeps a bounded number of parts under way and starts the next one from the callback of one
that ended, so that a small file costs one task and no more. Blocks that are there are skipped,
which makes a load resumable. A file counts as done only when all of it is in the cache.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fluidpy.errors import CacheError, FluidpyError
from fluidpy.storage.under_storage import is_volatile, may_be_kept
from fluidpy.worker.requests import Progress

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import Entry
    from fluidpy.worker.datasets import AttachedDataset
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.load_plan import LoadPlan
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Part

PARTS_UNDER_WAY: Final = 64
"""Parts that a load has under way or queued: more than a mount asks for at once (16), so that the
admission always has the next one at hand."""

RANGE_BYTES: Final = 256 * 1024 * 1024
"""A large file is fetched in ranges of this many bytes, which bounds the parts that are queued."""

PROGRESS_SECONDS: Final = 0.25
"""Time between two progress messages."""

FAILURES_LISTED: Final = 1000
"""Failures named in the final answer; all are counted."""

FILES_A_TURN: Final = 256
"""Files that are there already and are passed over before the loop looks at its other work."""


UNVERSIONED: Final = "its source cannot tell versions apart, so it is served and not kept"

VOLATILE: Final = "it changed within the last 2 s, so it is served and not kept yet: load it again"


class _File:
    """A file of which ranges are under way."""

    __slots__ = ("entry", "error", "fill", "path", "pending", "position")

    pending: set[Part]

    def __init__(self, path: str, entry: Entry, fill: ObjectFill) -> None:
        self.path = path
        self.entry = entry
        self.fill = fill
        self.position = 0
        self.pending = set()
        self.error: FluidpyError | None = None


class LoadCounts:
    """What a load has found and done so far."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.files = 0
        self.bytes = 0
        self.done_files = 0
        self.done_bytes = 0
        self.failed = 0
        self.failures: list[tuple[str, str]] = []
        self.omitted: Counter[str] = Counter()
        """Names of the sources that no file system can show, by reason."""

    def fail(self, path: str, message: str) -> None:
        """Counts a file that could not be loaded, and why."""
        self.failed += 1
        if len(self.failures) < FAILURES_LISTED:
            self.failures.append((path, message))

    def to_wire(self) -> dict[str, Any]:
        """The numbers, for a progress answer."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "done_files": self.done_files,
            "done_bytes": self.done_bytes,
            "failed": self.failed,
        }


class Load:
    """One load of a Dataset's files; `run` does it."""

    def __init__(
        self, dataset: AttachedDataset, fills: FillTable, plan: LoadPlan, counts: LoadCounts
    ) -> None:
        """Starts nothing yet."""
        self._dataset = dataset
        self._fills = fills
        self._files: Iterator[tuple[str, Entry]] = plan.walk()
        self._counts = counts
        self._current: _File | None = None
        self._open: set[_File] = set()
        self._parts = 0
        self._exhausted = False
        self._full: str | None = None
        self._wake = asyncio.Event()
        self._trouble: FluidpyError | None = None

    async def run(self, progress: Progress) -> None:
        """Fetches what is missing; a cancelled load leaves nothing queued.

        Raises CacheError when the catalog cannot be read; failures of files are counted instead.
        """
        ticker = asyncio.create_task(_tick(self._counts, progress))
        try:
            while True:
                self._wake.clear()
                self._pump()
                if self._trouble is not None:
                    raise self._trouble
                if self._exhausted and not self._open:
                    return
                if self._parts < PARTS_UNDER_WAY and not self._exhausted:
                    await asyncio.sleep(0)
                else:
                    await self._wake.wait()
        finally:
            ticker.cancel()
            for file in list(self._open):
                for part in file.pending:
                    file.fill.leave(part)
                file.fill.withdraw(self)
                self._fills.release(file.fill)
            self._open.clear()

    def _pump(self) -> None:
        """Starts parts until enough are under way; passes over at most `FILES_A_TURN` files."""
        turns = 0
        while self._parts < PARTS_UNDER_WAY and turns < FILES_A_TURN:
            if self._current is None:
                turns += 1
                try:
                    self._current = self._next_file()
                except FluidpyError as error:
                    self._trouble, self._exhausted = error, True
                if self._exhausted:
                    return
            elif self._start_range(self._current):
                self._current = None

    def _next_file(self) -> _File | None:
        """The next file that has bytes missing; None when it is passed over."""
        found = next(self._files, None)
        if found is None:
            self._exhausted = True
            return None
        path, entry = found
        if self._full is not None:
            self._counts.fail(path, self._full)
            return None
        if entry.size == 0:
            self._counts.done_files += 1
            return None
        if not may_be_kept(entry.version):
            self._counts.fail(path, VOLATILE if is_volatile(entry.version) else UNVERSIONED)
            return None
        return self._opened(path, entry)

    def _opened(self, path: str, entry: Entry) -> _File | None:
        key = self._dataset.object_key(entry)
        store = self._dataset.store
        try:
            cached = store.create(key, entry.size)
        except CacheError as error:
            self._counts.fail(path, error.message)
            return None
        if cached.complete:
            self._counts.done_files += 1
            self._counts.done_bytes += entry.size
            return None
        located = self._dataset.locate(entry)
        file = _File(path, entry, self._fills.acquire(key, located, cached, self._dataset))
        self._open.add(file)
        return file

    def _start_range(self, file: _File) -> bool:
        """Starts the next range of a file; True when it was the last one."""
        start = file.position
        end = min(start + RANGE_BYTES, file.entry.size)
        file.position = end
        parts = file.fill.parts(start, end, owner=self)
        self._counts.done_bytes += end - start - sum(part.end - part.start for part in parts)
        file.pending.update(parts)
        self._parts += len(parts)
        for part in parts:
            part.waiters += 1
            part.done.add_done_callback(partial(self._part_done, file, part))
        last = end == file.entry.size
        if last and not file.pending:
            self._file_done(file)
        return last

    def _part_done(self, file: _File, part: Part, _: asyncio.Future[None]) -> None:
        if file not in self._open:
            return
        self._parts -= 1
        file.pending.discard(part)
        part.waiters -= 1
        if part.error is not None:
            file.error = file.error or part.error
        elif part.data is not None:
            self._full = self._full or "the cache has no room for it"
            file.error = file.error or CacheError(
                self._full, cure="Give the cache tier a larger quota."
            )
        else:
            self._counts.done_bytes += part.end - part.start
            self._dataset.counters.loaded_bytes += part.end - part.start
        if not file.pending and file.position == file.entry.size:
            self._file_done(file)
        if self._parts < PARTS_UNDER_WAY // 2:
            self._wake.set()

    def _file_done(self, file: _File) -> None:
        self._open.discard(file)
        self._fills.release(file.fill)
        if file.error is not None:
            self._counts.fail(file.path, str(file.error))
        else:
            self._counts.done_files += 1
            self._dataset.counters.loaded_files += 1


async def _tick(counts: LoadCounts, progress: Progress) -> None:
    while True:
        progress(counts.to_wire())
        await asyncio.sleep(PROGRESS_SECONDS)
