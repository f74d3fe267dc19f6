"""The fill of one object: bytes come from its source into the store, each block once.

An `ObjectFill` stands for one version of one object while somebody uses it. Its parts under way are
found by block number, so a reader joins the part that is already fetching its block. A part belongs
to nobody: a reader that goes away does not stop it, only parts that are still queued and that
nobody waits for are withdrawn. What the store cannot keep stays in memory for a while (`unkept`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Final

from fluidpy.errors import (
    CacheError,
    CacheFullError,
    FluidpyError,
    PeerAbsentError,
    SourceChangedError,
    SourceTimeoutError,
    WorkerError,
)
from fluidpy.worker.admission import Request
from fluidpy.worker.parts import MountKey, Part, are_covered
from fluidpy.worker.source_reads import comes_in_pieces, describe, read_part, stream_part

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.storage.under_storage import Buffer
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.origin import Origin
    from fluidpy.worker.peer_reads import Brought

_log = logging.getLogger(__name__)

INLINE_WRITE_BYTES: Final = 256 * 1024
"""Parts up to this size are written on the event loop: handing one to a thread costs more."""

_ATTEMPTS: Final = 3
"""How often a reader tries when blocks it waited for left before it could use them, as happens in
a tier smaller than the range; at the last try they stay in memory."""


class ObjectFill:
    """One version of one object in use: where it comes from, its cache file, what is under way."""

    __slots__ = (
        "cached",
        "counters",
        "key",
        "launched",
        "located",
        "mount_key",
        "origin",
        "running",
        "table",
        "unkept",
        "users",
    )

    def __init__(
        self,
        table: FillTable,
        key: bytes,
        located: Located,
        cached: CachedObject | None,
        origin: Origin,
    ) -> None:
        """Holds the cache file until `FillTable` forgets the fill."""
        self.table = table
        self.key = key
        self.located = located
        self.cached = cached
        self.origin = origin
        self.counters = origin.counters
        self.mount_key = MountKey(id(located.storage), table.limits_of(located))
        self.users = 0
        self.launched = 0
        """Parts started so far, for those who ask whether theirs were under way already."""
        self.running: dict[int, Part] = {}
        self.unkept: dict[int, Part] = {}
        """Fetched parts that the store did not keep, by block, while `UnkeptParts` has room."""
        if cached is not None:
            cached.acquire()

    @property
    def size(self) -> int:
        """Length of the object in bytes."""
        return self.located.entry.size

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of `[start, end)` is not in the store: block-aligned ranges, clipped to the size."""
        if self.cached is not None:
            return [] if self.cached.complete else self.cached.missing(start, end)
        block = self.table.block_bytes
        return [(start // block * block, min(-(-end // block) * block, self.size))]

    def parts(
        self,
        start: int,
        end: int,
        owner: Hashable = None,
        *,
        ahead: bool = False,
        keep: bool = True,
        for_peer: bool = False,
        moved: bool = False,
    ) -> list[Part]:
        """The parts that bring what is missing of `[start, end)`, started where none is under way.

        `owner` None means that a reader waits for them; else they wait for the owner's turn.
        `ahead` parts use up the budget of read-ahead; new parts that are not to be kept (`keep`
        false) stay in memory. Parts are at most `part_bytes` long, and a quarter of the range
        (half of one fetched ahead, all of one moved) where that is less, so that a range uses
        several requests. Parts of full length do not cross its multiples, as sources may keep
        objects in parts like that.
        `for_peer`: another worker waits for them and counts on this one to fetch them itself.
        New parts are `moved` as `Part.moved` says.
        """
        found: list[Part] = []
        block = self.table.block_bytes
        for low, high in self.missing(start, end):
            longest = self._part_bytes(high - low, 1 if moved else 2 if ahead else 4)
            position = low
            while position < high:
                number = position // block
                part = self.running.get(number) or self.unkept.get(number)
                if part is None:
                    part = Part(
                        position,
                        self._stop(number, high, longest),
                        asyncio.get_running_loop().create_future(),
                        ahead,
                    )
                    part.keep, part.moved = keep, moved
                    self._launch(part, owner, for_peer=for_peer or moved)
                elif owner is None and part.request is not None:
                    self.table.admission_of(part).hurry(part.request)
                if for_peer and part.route is not None:
                    part.route.fetch_here()
                found.append(part)
                position = part.end
        return found

    async def ensure(
        self, start: int, end: int, deadline: float, *, for_peer: bool = False
    ) -> list[Part]:
        """Waits until `[start, end)` is in the store or in the parts returned, which hold the rest.

        `for_peer` is explained at `parts`. `deadline` is a time of the event loop's clock. Raises
        SourceTimeoutError when it passes, or the error of a part, as an exception of this waiter's
        own.
        """
        for attempt in range(_ATTEMPTS):
            parts = self.parts(start, end, keep=attempt < _ATTEMPTS - 1, for_peer=for_peer)
            await self.wait(parts, deadline)
            unkept = [part for part in parts if part.data is not None]
            if are_covered(self.missing(start, end), end, unkept):
                return unkept
        raise CacheError(
            f"{self.describe()}: bytes left the cache as fast as they came",
            cure="Give the cache tier a larger quota.",
        )

    async def wait(self, parts: list[Part], deadline: float) -> None:
        """Waits for parts; see `ensure`."""
        pending = [part for part in parts if not part.done.done()]
        if pending:
            await self._wait_pending(pending, deadline)
        for part in parts:
            if part.error is not None:
                raise type(part.error)(part.error.message, cure=part.error.cure) from part.error

    def withdraw(self, owner: Hashable) -> None:
        """The owner goes away: its parts that are queued and awaited by nobody are not fetched."""
        for part in set(self.running.values()):
            request = part.request
            if part.waiters == 0 and request is not None and request.owner == owner:
                self._drop_if_queued(part)

    def leave(self, part: Part) -> None:
        """One who waited for a part (`Part.waiters`) does so no longer."""
        part.waiters -= 1
        if part.waiters == 0 and part.request is not None and part.request.owner is None:
            self._drop_if_queued(part)

    def end(self, part: Part) -> None:
        """A part that somebody else fetched has ended; `data` is set when it was not kept."""
        if part.data is not None:
            self.table.unkept.add(self, part)
        self._end(part)

    def blocks(self, part: Part) -> range:
        """The numbers of the blocks that a part covers."""
        block = self.table.block_bytes
        return range(part.start // block, -(-part.end // block))

    def describe(self) -> str:
        """The object as messages call it: mount and path."""
        return describe(self.located)

    async def _wait_pending(self, pending: list[Part], deadline: float) -> None:
        for part in pending:
            part.waiters += 1
        try:
            left = deadline - asyncio.get_running_loop().time()
            _, late = await asyncio.wait({part.done for part in pending}, timeout=max(left, 0.0))
        finally:
            for part in pending:
                self.leave(part)
        if late:
            raise SourceTimeoutError(
                f"{self.describe()}: the source did not answer in time",
                cure="Try again, or give the request a longer deadline.",
            )

    def _drop_if_queued(self, part: Part) -> None:
        if part.task is None and not part.done.done():
            part.error = WorkerError(
                f"{self.describe()}: nobody waits for these bytes any more", cure="Read again."
            )
            self._end(part)

    def _part_bytes(self, length: int, pieces: int) -> int:
        """A range of `length` in that many pieces of whole blocks, each a part at most."""
        block = self.table.block_bytes
        return max(block, min(self.table.part_bytes, -(-length // (pieces * block)) * block))

    def _stop(self, number: int, high: int, longest: int) -> int:
        """Where a part that starts at block `number` ends: before a block that is under way."""
        block, start = self.table.block_bytes, number * self.table.block_bytes
        end = start + longest
        if longest == self.table.part_bytes:
            end -= start % longest
        end = min(high, end)
        if (peers := self.origin.peers) is not None:
            end = peers.end_of_unit(start, end, self.size)
        for other in range(number + 1, -(-end // block)):
            if other in self.running or other in self.unkept:
                return other * block
        return end

    def _launch(self, part: Part, owner: Hashable, *, for_peer: bool) -> None:
        self.launched += 1
        for number in self.blocks(part):
            self.running[number] = part
        length = part.end - part.start
        if part.ahead:
            self.table.ahead_allowance -= length
        if (peers := self.origin.peers) is not None:
            part.route = peers.route(self.key, self.located.entry, part.start, for_peer=for_peer)
        part.request = Request(self.mount_key, length, partial(self._start, part), owner)
        self.table.admission_of(part).enter(part.request)

    def _start(self, part: Part) -> None:
        task = asyncio.get_running_loop().create_task(self._run(part))
        self.table.spawn(part, task)

    async def _run(self, part: Part) -> None:
        """Fetches one part; however it ends, the waiters are woken with bytes or an error."""
        try:
            await self._fetch(part)
        except FluidpyError as error:
            part.error = error
            if isinstance(error, SourceChangedError):
                self.origin.source_changed(self.located)
            if part.wanted and not (part.ahead and isinstance(error, CacheFullError)):
                self.counters.count_error(type(error).__name__)
                if self.table.may_log_failure(self.located, error):
                    place = self.describe()
                    _log.warning("%s: bytes %d to %d: %s", place, part.start, part.end, error)
        except BaseException:
            part.error = WorkerError(
                f"{self.describe()}: reading bytes {part.start} to {part.end} was broken off",
                cure="Read again; the worker's log has the cause.",
            )
            raise
        finally:
            self._end(part)

    async def _fetch(self, part: Part) -> None:
        cached, kept = self._reserve(part), False
        data: Buffer = b""
        try:
            if (brought := await self._ask_peers(part, cached)) is None:
                if cached is not None and comes_in_pieces(self, part):
                    kept = await self._stream(cached, part)
                if not kept:
                    data = await read_part(self, part)
                self.counters.source_reads += 1
                self.counters.bytes_from_source += part.end - part.start
            else:
                kept, data = brought.kept, brought.data
            if cached is not None and not kept:
                kept = await self._write(cached, part, data)
        finally:
            if cached is not None and not kept:
                cached.abandon(part.start, part.end)
        if not kept:
            self.counters.bytes_not_kept += part.end - part.start
            part.data = data
            self.table.unkept.add(self, part)

    async def _ask_peers(self, part: Part, cached: CachedObject | None) -> Brought | None:
        """What another worker gave; None: it is the source's turn, and the part's turn there."""
        route = part.route
        if route is None or not route.steps:
            self._refuse_unless_wanted(part)
            return None
        brought = await route.bring(
            self.located,
            part.start,
            part.end,
            self.mount_key.limits.deadline_seconds,
            self.counters,
            cached,
        )
        if brought is None:
            self._refuse_unless_wanted(part)
            self.counters.source_after_peers += 1
            route.at_source = True
            request, part.request = part.request, None
            assert request is not None  # it has one until it ends
            self.table.peer_admission.leave(request)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            begin = partial(turn.set_result, None)
            part.request = Request(self.mount_key, part.end - part.start, begin, request.owner)
            self.table.admission.enter(part.request)
            await turn
        return brought

    def _refuse_unless_wanted(self, part: Part) -> None:
        if not part.wanted:
            raise PeerAbsentError(
                f"{self.describe()}: no other worker gave it", cure="Read it: its source has it."
            )

    def _reserve(self, part: Part) -> CachedObject | None:
        """Room for the part in the store; None when it cannot be kept."""
        if self.cached is None or not part.keep:
            return None
        copy = part.moved or (part.route is not None and part.route.copy)
        try:
            self.cached.reserve(part.start, part.end, copy)
        except CacheError as error:
            if not (part.wanted and self.table.unkept.may_come(part)):
                raise
            if not ((copy or self.cached.keeps_nothing) and isinstance(error, CacheFullError)):
                self._not_kept(error)
            return None
        return self.cached

    async def _stream(self, cached: CachedObject, part: Part) -> bool:
        """Fetches into the cache file; False when the disk did not take it."""
        try:
            await stream_part(self, part, cached)
        except CacheError as error:
            self._not_kept(error)
            return False
        return True

    async def _write(self, cached: CachedObject, part: Part, data: Buffer) -> bool:
        """Writes and commits; False when the disk did not take it."""
        try:
            if part.end - part.start <= INLINE_WRITE_BYTES:
                cached.write(part.start, data)
            else:
                await asyncio.get_running_loop().run_in_executor(
                    self.table.writers, cached.write, part.start, data
                )
            cached.commit(part.start, part.end)
        except CacheError as error:
            self._not_kept(error)
            return False
        return True

    def _not_kept(self, error: CacheError) -> None:
        kind = type(error).__name__
        if self.table.may_log(kind):
            _log.warning("%s: served without being kept: %s", self.describe(), error)
        self.counters.count_error(kind)

    def _end(self, part: Part) -> None:
        """Takes the part off the table and wakes its waiters."""
        for number in self.blocks(part):
            if self.running.get(number) is part:
                del self.running[number]
        if part.ahead:
            self.table.ahead_allowance += part.end - part.start
        self.table.unkept.ended(part)
        request, part.request, part.task = part.request, None, None
        if not part.done.done():
            part.done.set_result(None)
        if request is not None:
            self.table.admission_of(part).leave(request)
        self.table.forget_if_unused(self)
