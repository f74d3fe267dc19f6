"""Loads: bring many files into the cache as fast as source and disk allow.

Small files of which nothing is there go to a few tasks that fetch one after the other
(`small_fetches`). Of the others a bounded number of parts is under way, the next one started from
the callback of one that ended. Blocks that are there are skipped, which makes a load resumable. A
file counts as done only when all of it is in the cache.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fluidpy.errors import CacheError, FluidpyError
from fluidpy.storage.under_storage import is_volatile, may_be_kept
from fluidpy.worker.load_plan import LoadPlan, Range, Share, ranges_of
from fluidpy.worker.parts import MountKey
from fluidpy.worker.requests import Progress
from fluidpy.worker.small_fetches import READY_FILES, SmallFetches, SmallFile

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import Entry
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Part

PARTS_UNDER_WAY: Final = 64
"""Parts that a load has under way or queued: more than a mount asks for at once (32), so that the
admission always has the next one at hand."""

RANGE_BYTES: Final = 256 * 1024 * 1024
"""A large file is fetched in ranges of this many bytes, which bounds the parts that are queued."""

PROGRESS_SECONDS: Final = 0.25
"""Time between two progress messages."""

FAILURES_LISTED: Final = 1000
"""Failures named in the final answer; all are counted."""

FILES_A_TURN: Final = 256
"""Files looked up in the cache at once, before the loop looks at its other work."""


UNVERSIONED: Final = "its source cannot tell versions apart, so it is served and not kept"

VOLATILE: Final = "it changed within the last 2 s, so it is served and not kept yet: load it again"


_NO_ROOM: Final = "the cache has no room for it"


class _Found(NamedTuple):
    """A file to load, in `ranges`; `absent`: nothing of it is in the cache."""

    path: str
    entry: Entry
    key: bytes
    absent: bool
    ranges: list[Range]


class _File:
    """A file of which ranges are under way."""

    __slots__ = ("counted", "error", "fill", "left", "path", "pending")

    pending: set[Part]

    def __init__(self, found: _Found, fill: ObjectFill) -> None:
        self.path = found.path
        self.fill = fill
        self.counted = found.ranges[0][0] == 0
        """Whether it is this worker that counts the file, of which others load other ranges."""
        self.left = deque(
            (at, min(at + RANGE_BYTES, end))
            for start, end in found.ranges
            for at in range(start, end, RANGE_BYTES)
        )
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

    def fail(self, path: str, message: str, files: int = 1) -> None:
        """Counts files that could not be loaded, and says once why."""
        self.failed += files
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
        self,
        dataset: AttachedDataset,
        fills: FillTable,
        plan: LoadPlan,
        counts: LoadCounts,
        share: Share | None = None,
    ) -> None:
        """Starts nothing yet. With a `share`, what is not in it is left to other workers."""
        self._share = share
        self._dataset = dataset
        self._fills = fills
        self._files: Iterator[tuple[str, Entry]] = plan.walk()
        self._counts = counts
        self._found: deque[_Found] = deque()
        self._small = SmallFetches(
            dataset,
            fills,
            done=self._small_done,
            in_use=self._small_in_use,
            hungry=self._hungry,
            must_keep=share is not None,
        )
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
                if self._exhausted and not (self._open or self._found or self._small.busy):
                    return
                if self._wants_more and not self._exhausted:
                    await asyncio.sleep(0)
                else:
                    await self._wake.wait()
        finally:
            ticker.cancel()
            self._found.clear()
            self._small.stop()
            for file in list(self._open):
                for part in file.pending:
                    file.fill.leave(part)
                file.fill.withdraw(self)
                self._fills.release(file.fill)
            self._open.clear()

    @property
    def _wants_more(self) -> bool:
        return self._parts < PARTS_UNDER_WAY and len(self._small) <= READY_FILES

    def _pump(self) -> None:
        """Starts parts and queues small files until there are enough; one look-up a call."""
        try:
            if not (self._found or self._exhausted) and self._wants_more:
                self._find_more()
            while self._parts < PARTS_UNDER_WAY:
                if self._current is not None:
                    if self._start_range(self._current):
                        self._current = None
                elif self._found:
                    self._current = self._begin(self._found.popleft())
                else:
                    return
        except FluidpyError as error:
            self._trouble, self._exhausted = error, True

    def _find_more(self) -> None:
        """Takes the next files of the plan, and asks the cache about all small ones at once."""
        whole = self._dataset.store.whole
        taken = list(itertools.islice(self._files, FILES_A_TURN))
        self._exhausted = len(taken) < FILES_A_TURN
        found = []
        for path, entry in taken:
            ranges = ranges_of(self._share, self._dataset, entry)
            if not ranges:
                continue
            if self._full is not None:
                self._counts.fail(path, self._full)
            elif entry.size == 0:
                self._counts.done_files += 1
            elif not may_be_kept(entry.version):
                self._counts.fail(path, VOLATILE if is_volatile(entry.version) else UNVERSIONED)
            else:
                found.append((path, entry, self._dataset.object_key(entry), ranges))
        small = [key for _, entry, key, _ in found if entry.size <= whole.limit]
        absent = whole.absent(small) if small else set()
        self._found.extend(
            _Found(path, entry, key, key in absent, ranges) for path, entry, key, ranges in found
        )

    def _begin(self, found: _Found) -> _File | None:
        """The file when ranges of it are to be started; None when that is not needed."""
        if self._full is not None:
            self._counts.fail(found.path, self._full)
            return None
        if not found.absent:
            return self._opened(found)
        located = self._dataset.locate(found.entry)
        mount = MountKey(id(located.storage), self._fills.limits_of(located))
        self._small.offer(SmallFile(found.path, found.key, located, mount))
        return None

    def _hungry(self) -> None:
        self._wake.set()

    def _small_in_use(self, file: SmallFile) -> None:
        entry = file.located.entry
        self._found.append(_Found(file.path, entry, file.key, False, [(0, entry.size)]))
        self._wake.set()

    def _small_done(self, file: SmallFile, error: FluidpyError | None) -> None:
        counts, counters, size = self._counts, self._dataset.counters, file.located.entry.size
        if isinstance(error, CacheError):
            self._full = self._full or _NO_ROOM
            counts.fail(file.path, self._full)
        elif error is not None:
            counts.fail(file.path, str(error))
        else:
            counts.done_files += 1
            counts.done_bytes += size
            counters.loaded_files += 1
            counters.loaded_bytes += size

    def _opened(self, found: _Found) -> _File | None:
        path, entry, key, _, ranges = found
        try:
            cached = self._dataset.cached_object(key, entry.size)
        except CacheError as error:
            self._counts.fail(path, error.message)
            return None
        if cached.complete:
            self._counts.done_files += ranges[0][0] == 0
            self._counts.done_bytes += sum(end - start for start, end in ranges)
            return None
        located = self._dataset.locate(entry)
        file = _File(found, self._fills.acquire(key, located, cached, self._dataset))
        self._open.add(file)
        return file

    def _start_range(self, file: _File) -> bool:
        """Starts the next range of a file; True when it was the last one."""
        start, end = file.left.popleft()
        parts = file.fill.parts(start, end, owner=self)
        self._counts.done_bytes += end - start - sum(part.end - part.start for part in parts)
        file.pending.update(parts)
        self._parts += len(parts)
        for part in parts:
            part.waiters += 1
            part.done.add_done_callback(partial(self._part_done, file, part))
        last = not file.left
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
            self._full = self._full or _NO_ROOM
            file.error = file.error or CacheError(
                self._full, cure="Give the cache tier a larger quota, or make room on its disk."
            )
        else:
            self._counts.done_bytes += part.end - part.start
            self._dataset.counters.loaded_bytes += part.end - part.start
        if not (file.pending or file.left):
            self._file_done(file)
        if self._parts < PARTS_UNDER_WAY // 2:
            self._wake.set()

    def _file_done(self, file: _File) -> None:
        self._open.discard(file)
        self._fills.release(file.fill)
        if file.error is not None:
            self._counts.fail(file.path, str(file.error))
        elif file.counted:
            self._counts.done_files += 1
            self._dataset.counters.loaded_files += 1


async def _tick(counts: LoadCounts, progress: Progress) -> None:
    while True:
        progress(counts.to_wire())
        await asyncio.sleep(PROGRESS_SECONDS)
