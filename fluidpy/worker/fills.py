"""The table of all fills of this worker: one `ObjectFill` an object in use, however many readers.

Here are what fills share: the admission to the sources, the threads that write to disk, the budget
of read-ahead, and their end when the worker stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from fluidpy.worker.admission import Admission
from fluidpy.worker.object_fill import ObjectFill
from fluidpy.worker.parts import Guarded, MountKey, MountLimits, Part
from fluidpy.worker.unkept import UnkeptParts
from fluidpy.worker.whole_fetch import WholeFetch

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.errors import FluidpyError
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.worker.origin import Origin

_log = logging.getLogger(__name__)

READ_AHEAD_BUDGET_BYTES: Final = 256 * 1024 * 1024
"""Bound of what is planned ahead and not yet fetched, over all readers."""

PEER_REQUESTS: Final = 32
"""Requests to other workers under way at once per mount, as many as to a source by default."""

QUIET_SECONDS: Final = 30.0
"""A flood of one kind of failure is logged once in so many seconds (all are counted)."""

FAILURES_LOGGED: Final = 100
"""Reads of one mount that failed in one way and are named in the log in that time."""


class FillTable:
    """All fills of this worker; `limits_of` says what an object's mount may do."""

    def __init__(
        self,
        *,
        block_bytes: int,
        part_bytes: int,
        limits_of: Callable[[Located], MountLimits],
        read_ahead_budget: int = READ_AHEAD_BUDGET_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sizes are in bytes; a part is a whole number of blocks."""
        self.block_bytes = block_bytes
        self.part_bytes = max(part_bytes // block_bytes, 1) * block_bytes
        self.admission: Admission[MountKey] = Admission(lambda mount: mount.limits.requests)
        self.peer_admission: Admission[MountKey] = Admission(lambda _: PEER_REQUESTS)
        """Apart from the sources': workers that wait for each other would hold up both."""
        self.limits_of = limits_of
        self.clock = clock
        self.unkept = UnkeptParts()
        self.ahead_allowance = read_ahead_budget
        self.writers = ThreadPoolExecutor(2, thread_name_prefix="fluidpy-write")
        self._objects: dict[bytes, ObjectFill] = {}
        self._whole: dict[bytes, WholeFetch] = {}
        self._tasks: dict[asyncio.Task[None], Guarded] = {}
        self.fetched_parts = 0
        self._logged: dict[str, tuple[float, int]] = {}

    def admission_of(self, part: Part) -> Admission[MountKey]:
        """Where a part has, or waits for, its turn."""
        route = part.route
        asks_peers = route is not None and route.steps and not route.at_source
        return self.peer_admission if asks_peers else self.admission

    def acquire(
        self, key: bytes, located: Located, cached: CachedObject | None, origin: Origin
    ) -> ObjectFill:
        """The fill of an object; the caller gives it back with `release`."""
        fill = self._objects.get(key)
        if fill is None:
            fill = self._objects[key] = ObjectFill(self, key, located, cached, origin)
            if (whole := self._whole.get(key)) is not None:
                whole.join(fill)
        elif fill.cached is None and cached is not None:
            fill.cached = cached
            cached.acquire()
        fill.users += 1
        return fill

    def release(self, fill: ObjectFill) -> None:
        """Ends one use; the last one forgets the fill once nothing of it is under way."""
        fill.users -= 1
        self.forget_if_unused(fill)

    def forget_if_unused(self, fill: ObjectFill) -> None:
        """Drops a fill that nobody uses and that fetches nothing."""
        if fill.users == 0 and not fill.running and self._objects.get(fill.key) is fill:
            del self._objects[fill.key]
            self.unkept.drop(fill)
            if fill.cached is not None:
                fill.cached.release()

    def storages_in_use(self) -> set[int]:
        """`id` of each storage that an object in use is read through."""
        whole = {id(fetch.located.storage) for fetch in self._whole.values()}
        return whole | {fill.mount_key.storage for fill in self._objects.values()}

    @property
    def busy(self) -> bool:
        """True while anything is fetched or written."""
        return bool(self._tasks)

    def begin_whole(self, fetch: WholeFetch) -> bool:
        """Takes note of a whole fetch; False when the object is in use or fetched already."""
        if fetch.key in self._objects or fetch.key in self._whole:
            return False
        self._whole[fetch.key] = fetch
        return True

    def end_whole(self, fetch: WholeFetch) -> None:
        """The fetch has ended, one way or the other: those who joined it are told."""
        del self._whole[fetch.key]
        fetch.tell()

    def spawn(self, part: Guarded, work: asyncio.Task[None]) -> None:
        """Keeps the task of a part (or of several fetches) alive until it has ended."""
        part.task = work
        self._tasks[work] = part
        work.add_done_callback(self._ended)

    def may_log(self, kind: str, most: int = 1) -> bool:
        """True at most so many times in `QUIET_SECONDS` for one kind of event that may come in
        floods.
        """
        now = self.clock()
        since, number = self._logged.get(kind, (now, 0))
        if now - since >= QUIET_SECONDS:
            since, number = now, 0
        self._logged[kind] = since, number + 1
        return number < most

    def may_log_failure(self, located: Located, error: FluidpyError) -> bool:
        """Whether a read that failed is logged: a store that refuses all would fill the disk."""
        kind = f"{type(error).__name__} of mount {located.mount.name}"
        return self.may_log(kind, FAILURES_LOGGED)

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._tasks.pop(work, None)
        self.fetched_parts += 1
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.error("a fill failed in a way it should not", exc_info=error)

    def end_overdue(self) -> None:
        """Breaks off parts whose source neither answers nor keeps its own deadline.

        Called now and then, so that no part needs a timer of its own.
        """
        now = asyncio.get_running_loop().time()
        for task, part in list(self._tasks.items()):
            if now > part.ends_by:
                part.ends_by = -1.0
                task.cancel()

    async def close(self, grace_seconds: float) -> None:
        """Lets running parts finish for a while, cancels the rest, and waits for the writes."""
        deadline = self.clock() + grace_seconds
        while self._tasks and (left := deadline - self.clock()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        await asyncio.get_running_loop().run_in_executor(None, self.writers.shutdown)
