"""Small files of a load: a few tasks that fetch one after the other, each file whole.

A file of 100 KB costs 0.16 ms of CPU over plain HTTP, 0.4 with obstore. A part with its request,
task, future and callbacks would add 0.2, so the tasks here live as long as the load and go from
file to file. What else a part does is done here too: a turn at the admission, room reserved first,
one fetch an object, a limit of time, failures named.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, NamedTuple

from fluidpy.errors import (
    CacheError,
    CacheFullError,
    FluidpyError,
    SourceChangedError,
    WorkerError,
)
from fluidpy.worker.admission import Admission, Request
from fluidpy.worker.parts import MountKey
from fluidpy.worker.source_reads import describe, read_range
from fluidpy.worker.whole_fetch import WholeFetch

if TYPE_CHECKING:
    from fluidpy.cache.whole_files import WholePlace
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.storage.under_storage import Buffer
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.fills import FillTable

_log = logging.getLogger(__name__)

MOST_TASKS: Final = 64
"""Tasks of one load, however many requests its mounts allow."""

READY_FILES: Final = 128
"""With fewer files than this waiting, the load is asked for more."""


class SmallFile(NamedTuple):
    """A file of which nothing is in the cache."""

    path: str
    key: bytes
    located: Located
    mount: MountKey


class _Slot:
    """One task and its turn at an admission."""

    __slots__ = ("_admission", "_request", "ends_by", "owner", "task", "turn")

    def __init__(self, owner: Hashable) -> None:
        self.owner = owner
        self.ends_by = math.inf
        self.task: asyncio.Task[None] | None = None
        self.turn: asyncio.Future[None] | None = None
        """Set while it waits for its turn."""
        self._admission: Admission[MountKey] | None = None
        self._request: Request[MountKey] | None = None

    async def enter(self, admission: Admission[MountKey], file: SmallFile) -> None:
        """Waits for a turn, which `leave` ends."""
        size = file.located.entry.size
        self._admission = admission
        self._request = request = Request(file.mount, size, self._admitted, self.owner)
        admission.enter(request)
        if not request.running:
            self.turn = asyncio.get_running_loop().create_future()
            await self.turn
            self.turn = None

    def leave(self) -> None:
        """Lets others have their turn."""
        self.turn = None
        if self._admission is not None and self._request is not None:
            self._admission.leave(self._request)
        self._admission = self._request = None

    def _admitted(self) -> None:
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)


class SmallFetches:
    """The small files of one load.

    `done` is called with each file and its error, if it had one; `in_use` with a file that somebody
    else is fetching; `hungry` when few files wait or a task has ended.
    """

    def __init__(
        self,
        dataset: AttachedDataset,
        fills: FillTable,
        *,
        done: Callable[[SmallFile, FluidpyError | None], None],
        in_use: Callable[[SmallFile], None],
        hungry: Callable[[], None],
        must_keep: bool,
    ) -> None:
        """Nothing waits yet. `must_keep`: what other workers keep is to be kept here as well."""
        self._must_keep = must_keep
        self._dataset = dataset
        self._fills = fills
        self._done = done
        self._in_use = in_use
        self._hungry = hungry
        self._waiting: deque[SmallFile] = deque()
        self._slots: set[_Slot] = set()

    def __len__(self) -> int:
        """Files that wait."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether files wait or are fetched."""
        return bool(self._slots or self._waiting)

    def offer(self, file: SmallFile) -> None:
        """Queues a file, and has it begun if there may be one more task."""
        self._waiting.append(file)
        if len(self._slots) < min(MOST_TASKS, file.mount.limits.requests):
            slot = _Slot(self)
            self._slots.add(slot)
            self._fills.spawn(slot, asyncio.get_running_loop().create_task(self._run(slot)))

    def stop(self) -> None:
        """Begins no file any more; what is under way goes on to its end."""
        self._waiting.clear()
        for slot in self._slots:
            if slot.turn is not None and slot.task is not None:
                slot.task.cancel()

    async def _run(self, slot: _Slot) -> None:
        try:
            while self._waiting:
                file = self._waiting.popleft()
                if len(self._waiting) == READY_FILES:
                    self._hungry()
                await self._take(slot, file)
        finally:
            self._slots.discard(slot)
            while self._waiting and not self._slots:  # only when the worker ends
                self._done(
                    self._waiting.popleft(),
                    WorkerError(
                        "the worker was stopped", cure="Read again: the next use starts a worker."
                    ),
                )
            self._hungry()

    async def _take(self, slot: _Slot, file: SmallFile) -> None:
        """Fetches one file when its turn has come."""
        peers = self._dataset.peers
        route = None
        if peers is not None:
            route = peers.route(file.key, file.located.entry, 0, for_peer=False)
        asks_peers = route is not None and bool(route.steps)
        try:
            fills = self._fills
            await slot.enter(fills.peer_admission if asks_peers else fills.admission, file)
            fetch = WholeFetch(file.key, file.located, slot.task, route)
            if not self._fills.begin_whole(fetch):
                self._in_use(file)
                return
            try:
                await self._fetch(slot, file, fetch)
            finally:
                self._fills.end_whole(fetch)
        finally:
            slot.leave()
        self._done(file, fetch.error)

    async def _fetch(self, slot: _Slot, file: SmallFile, fetch: WholeFetch) -> None:
        """Brings one file into the store; whatever fails is noted in `fetch`."""
        counters = self._dataset.counters
        try:
            await self._fetch_and_keep(slot, file, fetch)
        except FluidpyError as error:
            fetch.error = error
            counters.count_error(type(error).__name__)
            if isinstance(error, SourceChangedError):
                self._dataset.source_changed(file.located)
            if self._fills.may_log_failure(file.located, error):
                _log.warning("%s: %s", describe(file.located), error)
        except BaseException as error:
            fetch.error = WorkerError(
                f"{describe(file.located)}: reading it was broken off",
                cure="Read again; the worker's log has the cause.",
            )
            if not isinstance(error, Exception):
                raise
            _log.exception("%s: a fetch failed in a way it should not", describe(file.located))

    async def _fetch_and_keep(self, slot: _Slot, file: SmallFile, fetch: WholeFetch) -> None:
        whole, counters = self._dataset.store.whole, self._dataset.counters
        size = file.located.entry.size
        place = self._reserve(file, fetch)
        try:
            data = await self._read(slot, file, fetch)
        except BaseException:
            if place is not None:
                whole.give_back(place)
            raise
        if place is None:
            fetch.data = data
            return
        try:
            whole.keep(place, data)
        except CacheError:
            counters.bytes_not_kept += size
            fetch.data = data
            raise

    def _reserve(self, file: SmallFile, fetch: WholeFetch) -> WholePlace | None:
        """Room in the store. None: there is none for a copy of what another worker keeps."""
        copy = fetch.route is not None and fetch.route.copy
        try:
            return self._dataset.store.whole.reserve(file.key, file.located.entry.size, copy)
        except CacheFullError:
            if not copy or self._must_keep:
                raise
            return None

    async def _read(self, slot: _Slot, file: SmallFile, fetch: WholeFetch) -> Buffer:
        """All bytes of a file, from another worker where one has or fetches them."""
        counters, limits, route = self._dataset.counters, file.mount.limits, fetch.route
        size = file.located.entry.size
        if route is not None and route.steps:
            seconds = limits.deadline_seconds
            brought = await route.bring(file.located, 0, size, seconds, counters)
            if brought is not None:
                return brought.data
            counters.source_after_peers += 1
            slot.leave()
            route.at_source = True
            await slot.enter(self._fills.admission, file)
        data = await read_range(file.located, 0, size, limits, slot)
        counters.source_reads += 1
        counters.bytes_from_source += size
        return data
