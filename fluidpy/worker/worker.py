"""The worker itself: what it owns, whom it serves, when it ends.

It ends when it is told to, or when nobody was connected and nothing was under way for a while. To
end cleanly it stops listening, lets fills finish for a moment, cancels the rest, writes the index
and marks the stores clean.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from fluidpy.cache.store import BlockStore
from fluidpy.client.start import peer_of
from fluidpy.errors import CacheError
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource, UnderStorage
from fluidpy.telemetry.worker_samples import worker_samples
from fluidpy.worker import metadata_operations, process_operations
from fluidpy.worker.attached_dataset import AttachedDataset, Listener
from fluidpy.worker.connection import Connection
from fluidpy.worker.datasets import Datasets
from fluidpy.worker.fills import FillTable
from fluidpy.worker.leases import Leases
from fluidpy.worker.lent_storage import LentStorage, StorageLender
from fluidpy.worker.memory import give_back
from fluidpy.worker.parts import MountLimits
from fluidpy.worker.session import Session
from fluidpy.worker.stores import Stores

if TYPE_CHECKING:
    from fluidpy.namespace.catalog_rows import Changes
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.worker.pool import Pool
    from fluidpy.worker.rebalancing import Rebalancing

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.05
"""How long a committed block may wait for its index row: a crash in between costs a fetch."""

FLUSH_AGAIN_SECONDS: Final = 1.0
"""Pause after an index could not be written, as on a full disk; its rows stay queued."""

UPKEEP_SECONDS: Final = 5.0
"""Time between two looks at what is idle, returned or due."""

PURGE_FIRST_SECONDS: Final = 30.0
"""When old versions are purged from a Dataset's catalog after it was opened: clients of a worker
that died have opened their files again by then."""

PURGE_SECONDS: Final = 3600.0
"""Time between two purges of a catalog; versions are kept for a day anyway."""

RECONCILE_SECONDS: Final = 0.25
"""Longest pause between two steps of comparing files and index after the start (256 steps)."""

RECONCILE_REST: Final = 9
"""The pause as a multiple of what the last step took: a small store is through in a second."""

SCRUB_BYTES: Final = 16 * 1024 * 1024
"""Read by the background scrubber each `UPKEEP_SECONDS`: 3 MiB/s, which no disk notices."""

STOP_SECONDS: Final = 2.5
"""How long fills may go on when the worker is told to stop; a clean stop takes 5 s at most."""

CLOSE_SECONDS: Final = 1.0
"""How long catalogs and sources may take to close after that."""

ACCEPT_AGAIN_SECONDS: Final = 0.5
"""Pause after a client could not be accepted, as without descriptors; it waits in the backlog."""


class Worker:
    """Serves clients of one user on a listening socket; `run` does it until the end."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_storage: Callable[[MountSource, Settings], UnderStorage] = open_storage,
    ) -> None:
        """Opens nothing yet."""
        self.settings = settings
        self.started_at = time.monotonic()
        self.stores = Stores(settings)
        self._lender = StorageLender(open_storage)
        self.fills = FillTable(
            block_bytes=settings.block_bytes,
            part_bytes=settings.part_bytes,
            limits_of=_limits_of,
        )
        self.pool = _pool_of(settings, self.fills)
        """The other workers that this one shares its work with; None: it serves alone."""
        self.datasets = Datasets(
            settings,
            self.stores,
            self._lender.lend,
            None if self.pool is None else self.pool.peers_for,
        )
        self.rebalancing = _rebalancing_of(self)
        """What this worker takes over of others; None: it serves alone."""
        self.leases = Leases()
        self._connections: set[Connection] = set()
        self.sessions: set[Session] = set()
        self._purge_at: dict[int, float] = {}
        self._socket_seen = 0
        self._handle_numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Event = asyncio.Event()
        self._sharing = asyncio.Lock()

    @property
    def connections(self) -> int:
        """Clients connected."""
        return len(self._connections)

    def next_handle(self) -> int:
        """A number that no handle of this worker had."""
        return next(self._handle_numbers)

    def stop(self, reason: str) -> None:
        """Makes `run` end; harmless when done twice."""
        if not self._stopping.is_set():
            _log.info("stopping: %s", reason)
            self._stopping.set()

    def push_changes(self, session: Session) -> Listener:
        """A listener that pushes a Dataset's changes to a client."""

        def listen(dataset: AttachedDataset, changes: Changes) -> None:
            self.spawn(metadata_operations.push(session, dataset, changes))

        return listen

    async def start(self) -> None:
        """Joins the pool, where there is one. Raises UsageError, ClusterError when it cannot."""
        if (pool := self.pool) is not None:
            pool.on_change.append(lambda _: self.spawn(self._share_disk(pool)))
            await pool.start(
                self.datasets, lambda: worker_samples(process_operations.state_of(self))
            )

    async def _share_disk(self, pool: Pool) -> None:
        """Default tiers become as large as the pool has it now; what others keep is summed up in a
        thread, since that takes a second for millions of files.
        """
        async with self._sharing:
            await asyncio.to_thread(self.stores.share_among, pool.membership.sharing(pool.name))

    async def run(self, listener: socket.socket) -> None:
        """Serves until `stop` or idleness, then ends cleanly. `listener` is non-blocking."""
        loop = asyncio.get_running_loop()
        self._listen(listener)
        self._socket_seen = self._socket_number()
        background = [
            loop.create_task(self._flush_often()),
            loop.create_task(self._look_after()),
            loop.create_task(self._reconcile()),
        ]
        if self.pool is not None:
            background.append(loop.create_task(self.pool.watch()))
        for task in background:
            task.add_done_callback(self._background_ended)
        try:
            await self._stopping.wait()
        finally:
            loop.remove_reader(listener)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine beside the requests; its failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task failed", exc_info=error)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a duty of the worker failed", exc_info=error)
            self.stop("without that duty it cannot go on")

    def _listen(self, listener: socket.socket) -> None:
        if not self._stopping.is_set():
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # out of fds: the client, who is still there, would be told again
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_AGAIN_SECONDS, self._listen, listener)
            if self.fills.may_log("accept"):
                _log.error("a client cannot be accepted: %s", error)
            return
        _pid, uid = peer_of(peer)
        if uid != os.getuid():
            _log.warning("user %d is refused: this worker serves user %d", uid, os.getuid())
            peer.close()
            return
        peer.setblocking(False)
        self._connections.add(
            Connection(peer, lambda c: Session(self, c), self._connections.discard)
        )

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self.stores.dirty:
                try:
                    self.stores.flush()
                except CacheError as error:
                    if self.fills.may_log("flush"):
                        _log.error("the cache index cannot be written, trying on: %s", error)
                    await asyncio.sleep(FLUSH_AGAIN_SECONDS)

    async def _look_after(self) -> None:
        """Upkeep that is due now and then; ends the worker when it was idle long enough."""
        idle_since = time.monotonic()
        fetched_when_trimmed = 0
        step = min(UPKEEP_SECONDS, self.settings.idle_seconds / 4)
        while True:
            await asyncio.sleep(step)
            self.fills.end_overdue()
            if not self._connections and self._socket_number() != self._socket_seen:
                self.stop(f"{self.settings.worker_socket} was removed: nobody can reach this")
                return
            if self._connections or self.fills.busy:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= self.settings.idle_seconds:
                self.stop(f"idle for {self.settings.idle_seconds:g} s")
                return
            if not self.fills.busy and fetched_when_trimmed != self.fills.fetched_parts:
                fetched_when_trimmed = self.fills.fetched_parts
                await asyncio.to_thread(give_back)
            await self._lender.close_returned(self.fills.storages_in_use())
            for store in self.stores:
                await self._look_after_store(store)
            await self.purge_catalogs(time.monotonic())

    async def purge_catalogs(self, now: float) -> None:
        """Deletes old versions that no client has open from catalogs where that is due.

        `now` is a time of the monotonic clock.
        """
        due = {
            d: self._purge_at.get(d.id, now + PURGE_FIRST_SECONDS) for d in self.datasets.with_trees
        }
        self._purge_at = {dataset.id: at for dataset, at in due.items()}
        for dataset in [dataset for dataset, at in due.items() if now >= at]:
            self._purge_at[dataset.id] = now + PURGE_SECONDS
            held = set().union(*(session.handles.rows_of(dataset) for session in self.sessions))
            try:
                purged = await dataset.namespace.purge(held)
            except CacheError as error:
                _log.error("catalog of Dataset %s: %s", dataset.definition.key, error)
                continue
            if purged:
                _log.info("Dataset %s: %d old versions purged", dataset.definition.key, purged)

    def _socket_number(self) -> int:
        """The inode of the socket's file, 0 when there is none."""
        try:
            return self.settings.worker_socket.stat().st_ino
        except OSError:
            return 0

    async def _look_after_store(self, store: BlockStore) -> None:
        try:
            await asyncio.to_thread(store.maintain)
            if not self.fills.busy:
                report = await asyncio.to_thread(store.scrub, SCRUB_BYTES)
                for key in report.damaged:
                    _log.warning("cached object %s was damaged and is dropped", key.hex())
        except CacheError as error:
            if self.fills.may_log("upkeep"):
                _log.error("upkeep of the cache failed: %s", error)

    async def _reconcile(self) -> None:
        """Compares files and index of each store once, in small steps."""
        done: set[int] = set()
        loop = asyncio.get_running_loop()
        pause = RECONCILE_SECONDS
        while True:
            await asyncio.sleep(pause)
            began, pause = loop.time(), RECONCILE_SECONDS
            for store in self.stores:
                if id(store) in done:
                    continue
                try:
                    report = await asyncio.to_thread(store.reconcile)
                except CacheError as error:
                    _log.error("the cache cannot be compared with its index: %s", error)
                    done.add(id(store))
                    continue
                if report.done:
                    done.add(id(store))
                pause = min(RECONCILE_SECONDS, RECONCILE_REST * (loop.time() - began))

    async def _close(self) -> None:
        for connection in list(self._connections):
            connection.close()
        for task in set(self._tasks):
            task.cancel()
        if self.rebalancing is not None:
            await self.rebalancing.close()
        if self.pool is not None:
            await self.pool.close()
        await self.fills.close(STOP_SECONDS)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.datasets.close()
                await self._lender.close_returned()
        except TimeoutError:
            _log.warning("a source or catalog did not close in time and is left as it is")
        self.stores.close()


def _pool_of(settings: Settings, fills: FillTable) -> Pool | None:
    """The pool that the settings speak of. A worker that serves alone loads nothing for it."""
    if settings.membership_file is None and not settings.listen:
        return None
    from fluidpy.worker.pool import Pool

    return Pool(settings, fills)


def _rebalancing_of(worker: Worker) -> Rebalancing | None:
    if worker.pool is None:
        return None
    from fluidpy.worker.rebalancing import Rebalancing

    rate = worker.settings.move_bytes_per_second
    return Rebalancing(worker.pool, worker.datasets, worker.fills, rate)


def _limits_of(located: Located) -> MountLimits:
    """The limits of an object's mount; every storage of a worker is a lent one."""
    assert isinstance(located.storage, LentStorage)
    return located.storage.limits
