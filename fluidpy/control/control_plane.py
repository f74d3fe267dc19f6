"""The control plane as a whole: the store, its interface, and what acts on the objects."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import Any, Final

from fluidpy.control.admission import Admission
from fluidpy.control.api_server import ApiServer
from fluidpy.control.control_samples import dataset_samples, object_samples
from fluidpy.control.data_loads import DataLoads
from fluidpy.control.data_migrates import DataMigrates
from fluidpy.control.declared_mounts import DeclaredMounts
from fluidpy.control.demands import RUNTIME_PLURALS, scaled, trouble_of
from fluidpy.control.event_log import EventLog
from fluidpy.control.loading_workers import LoadingWorkers
from fluidpy.control.metadata_sync import MetadataSyncs
from fluidpy.control.migration_ends import MigrationEnds
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import Change, ObjectStore
from fluidpy.control.pool_worker import PoolWorker
from fluidpy.control.reconciler import Reconciler
from fluidpy.control.runtime_executor import RuntimeExecutor
from fluidpy.control.unserved_operations import refuse
from fluidpy.control.worker_pool import WorkerPool
from fluidpy.errors import (
    ControlPlaneError,
    ControlPlaneTimeoutError,
    InUseError,
    MountError,
    ObjectConflictError,
    ObjectNotFoundError,
    UsageError,
    ValidationError,
)
from fluidpy.settings import Settings
from fluidpy.storage.plugins import PluginsIn

_log = logging.getLogger(__name__)

STEP_SECONDS: Final = 1.0
"""Time between two steps that nothing has asked for."""

REST_SECONDS: Final = 5.0
"""Time between two steps at rest: no object and no worker changed lately."""

RESTLESS_STEPS: Final = 5
"""Steps after a change that are made a second apart: what it set going comes to its end."""

GATHER_SECONDS: Final = 0.02
"""How long a step waits for further changes: two hundred objects make few steps."""

MOST_GATHER_SECONDS: Final = 0.5
"""How long it waits at most when steps take long: half the time is left to those who declare."""

_COUNTED: Final = ("datasets", *RUNTIME_PLURALS, "dataloads", "datamigrates")
"""Objects that the metrics tell of."""

RUNTIME_SECONDS: Final = 10.0
"""How long a Dataset that was just applied may take to get a runtime: a step or two."""

ANSWERED_SECONDS: Final = 0.1
"""How long the answer to a stop may take on its way before the interface closes."""


class ControlPlane:
    """Everything that one user's control plane is; `start` it, `run` it to its end."""

    def __init__(self, settings: Settings) -> None:
        """Opens the objects. Raises ControlPlaneError."""
        self.settings = settings
        self.store = ObjectStore(settings.state_dir / "objects")
        self._wake = asyncio.Event()
        self._stepped = asyncio.Event()
        self._ending = asyncio.Event()
        self._stop_workers = False
        self.admission = Admission(
            self.store, [refuse], lambda: PluginsIn(tuple(settings.plugin_folders))
        )
        self.pool = WorkerPool(settings, self.wake)
        self.mounts = DeclaredMounts(self.store, settings)
        self.events = EventLog(self.store, time.time)
        self.executor = RuntimeExecutor(settings, self._wake_from_a_thread)
        self.reconciler = Reconciler(
            self.store,
            self.admission,
            self.pool,
            self.mounts,
            self.events,
            settings,
            self.executor,
        )
        workers = LoadingWorkers(self.pool, self.reconciler)
        self.loads = DataLoads(self.store, workers, self.events, on_change=self._wake_from_a_thread)
        self.migrates = DataMigrates(
            self.store,
            MigrationEnds(
                self.reconciler.runtime_of,
                self.admission.stored,
                settings,
                trouble_of=lambda key: trouble_of(self.reconciler.wanted, key),
            ),
            self.events,
            on_change=self.wake,
        )
        self.syncs = MetadataSyncs(
            workers,
            self.reconciler.totals.get,
            self.events,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self.server = ApiServer(self.store, self.admission, self)
        self.store.listeners.append(self._on_change)

    def wake(self) -> None:
        """Has a step made soon."""
        self._wake.set()

    def _wake_from_a_thread(self) -> None:
        if (loop := self._loop) is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.wake)

    def _on_change(self, change: Change) -> None:
        self._wake.set()

    async def start(self) -> None:
        """Takes up what was, and listens. Raises ControlPlaneError."""
        self._loop = asyncio.get_running_loop()
        self._step_guarded()
        await self.server.start(self.settings.control_socket)

    async def run(self) -> None:
        """Serves until `end`."""
        steps = asyncio.get_running_loop().create_task(self._step_on())
        try:
            await self._ending.wait()
        finally:
            steps.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await steps
            self.syncs.close()
            self.loads.close()
            await self.migrates.close()
            await self.mounts.close()
            await self.server.close()
            await self.pool.close(stop=self._stop_workers)
            await self.executor.close(stop=self._stop_workers)
            self.settings.control_socket.unlink(missing_ok=True)
            self.store.close()

    async def _step_on(self) -> None:
        gather, restless = GATHER_SECONDS, RESTLESS_STEPS
        while True:
            woken = await self._woken(STEP_SECONDS if restless else REST_SECONDS)
            restless = RESTLESS_STEPS if woken else max(0, restless - 1)
            await asyncio.sleep(gather)
            self._wake.clear()
            begin = time.monotonic()
            self._step_guarded()
            gather = min(max(GATHER_SECONDS, time.monotonic() - begin), MOST_GATHER_SECONDS)
            stepped, self._stepped = self._stepped, asyncio.Event()
            stepped.set()

    async def _woken(self, seconds: float) -> bool:
        """Whether a step was asked for within that time; mounts are looked at meanwhile."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, STEP_SECONDS)):
                    await self._wake.wait()
                    return True
            try:
                self.mounts.look()
            except Exception as error:  # noqa: BLE001 - as of a step
                _log.error("the mounts could not be looked at", exc_info=error)
        return False

    def _step_guarded(self) -> None:
        try:
            self._step()
        except Exception as error:  # noqa: BLE001 - logged, and tried again: workers go on
            _log.error("a step failed", exc_info=error)

    def _step(self) -> None:
        self.reconciler.operations = self.loads.running()
        self.reconciler.migrations = self.migrates.running()
        self.reconciler.step()
        self.loads.look()
        self.migrates.look()
        loading = {f"{namespace}/{name}" for namespace, name in self.reconciler.operations}
        self.syncs.look(self.reconciler.wanted, loading)

    def end(self, reason: str) -> None:
        """Makes `run` end; harmless when done twice."""
        _log.info("ending: %s", reason)
        self._ending.set()

    async def status(self) -> Document:
        """See `api_server.Controlled`."""
        members = self.pool.membership.members
        draining = {member.name for member in members if member.draining}
        workers = [_worker_row(w, w.name in draining) for w in self.pool.workers.values()]
        return {
            "pid": os.getpid(),
            "generation": self.pool.membership.generation,
            "workers": sorted(workers, key=lambda row: int(row["name"].rpartition("-")[2])),
            "mounts": self.mounts.rows(),
        }

    async def access(
        self, namespace: str, name: str, member: str, seconds: float, *, stay: bool = False
    ) -> Document:
        """See `api_server.Controlled`."""
        key = f"{namespace}/{name}"
        limit = asyncio.get_running_loop().time() + seconds
        while True:
            dataset = self.store.get(ObjectKey("datasets", namespace, name))
            if "deletionTimestamp" in dataset["metadata"]:
                raise ObjectConflictError(
                    f"the Dataset {key} is being deleted", cure="Apply it again once it is gone."
                )
            if (worker := self._serving(key, member, stay)) is not None:
                return {
                    "definition": self.reconciler.definitions[key].to_wire(),
                    "runtimeDir": os.fspath(worker.settings.runtime_dir),
                    "cacheDir": os.fspath(worker.settings.cache_dir),
                    "member": worker.name,
                }
            left = limit - asyncio.get_running_loop().time()
            if left <= 0:
                raise self._not_served(key)
            await self._next_step(left)

    def _serving(self, key: str, member: str, stay: bool) -> PoolWorker | None:
        """A worker that serves the Dataset as it is declared: the named one, or the least busy.

        To `stay`, no other while it lies on the named one.
        """
        definition = self.reconciler.definitions.get(key)
        if definition is None or not self.reconciler.is_readable(key):
            return None
        workers = self.reconciler.workers_of(key)
        if stay and any(worker.name == member for worker in workers):
            workers = [worker for worker in workers if worker.name == member]
        found = [worker for worker in workers if worker.serves(definition)]
        if (named := next((w for w in found if w.name == member), None)) is not None:
            return named
        return min(found, key=lambda worker: (_connections(worker), worker.name), default=None)

    def _not_served(self, key: str) -> ControlPlaneError:
        wanted = self.reconciler.wanted.get(key)
        workers = self.reconciler.workers_of(key)
        troubles = [worker.troubles[key].message for worker in workers if key in worker.troubles]
        if wanted is not None and wanted.trouble is not None:
            troubles.insert(0, wanted.trouble.message)
        troubles += [worker.failure for worker in workers if worker.failure]
        state = self.executor.state(key)
        if state is not None and state.reason and not state.ready:
            troubles.insert(0, state.reason)
        why = f": {troubles[0]}" if troubles else ""
        return ControlPlaneTimeoutError(
            f"no worker serves the Dataset {key} yet{why}",
            cure=f"Mend what that says; `fluidpy describe dataset {key.partition('/')[2]}` tells "
            "more.",
        )

    async def scale(self, key: ObjectKey, replicas: int, drain: list[str]) -> Document:
        """See `api_server.Controlled`."""
        key = await self._runtime_of(key)
        document = self.store.get(key)
        placed = self.pool.membership.datasets.get(f"{key.namespace}/{key.name}")
        members = () if placed is None else placed.members
        if unknown := sorted(set(drain) - set(members)):
            raise ValidationError(
                f"{', '.join(unknown)} cannot be drained: {key.name} lies on "
                f"{', '.join(members) or 'no worker'}",
                cure="Name workers that it lies on; `fluidpy status` lists them.",
            )
        if drain and replicas > len(members) - len(drain):
            raise ValidationError(
                f"{replicas} workers are left only if fewer than {len(drain)} of {len(members)} "
                "leave",
                cure="Give as many replicas as stay, or drain fewer.",
            )
        reviewed = self.admission.review(
            key.plural, key.namespace, key.name, scaled(document, replicas, drain)
        )
        return self.store.replace(key, reviewed.document)

    async def _runtime_of(self, key: ObjectKey) -> ObjectKey:
        """The runtime that is scaled when a Dataset is named."""
        if key.plural in RUNTIME_PLURALS:
            self.store.get(key)
            return key
        if key.plural != "datasets":
            raise UsageError(
                f"{key.plural} have no number of workers", cure="Scale a Dataset or a runtime."
            )
        limit = asyncio.get_running_loop().time() + RUNTIME_SECONDS
        while True:
            self.store.get(key)
            wanted = self.reconciler.wanted.get(f"{key.namespace}/{key.name}")
            if wanted is not None and wanted.runtime is not None:
                plural = _plural_of(wanted.runtime.object.kind)
                return ObjectKey(plural, key.namespace, key.name)
            if (left := limit - asyncio.get_running_loop().time()) <= 0:
                raise ObjectNotFoundError(
                    f"the Dataset {key.name} has no runtime yet", cure="Try again in a moment."
                )
            await self._next_step(left)

    async def _next_step(self, seconds: float) -> None:
        """Waits until the next step has been made, so many seconds at most."""
        stepped = self._stepped
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stepped.wait()

    async def declare_mount(self, order: dict[str, Any]) -> Document:
        """See `api_server.Controlled`."""
        namespace, name = str(order.get("namespace")), str(order.get("dataset"))
        self.store.get(ObjectKey("datasets", namespace, name))
        return await self.mounts.declare(order)

    async def remove_mount(self, directory: str, lazy: bool) -> Document:
        """See `api_server.Controlled`."""
        return await self.mounts.remove(directory, lazy=lazy)

    async def stop(self, force: bool) -> Document:
        """See `api_server.Controlled`."""
        if not force and (users := self._open_by()):
            raise InUseError(
                f"workers are in use by {', '.join(users)}",
                cure="End those, or force it: fluidpy down --force",
            )
        try:
            await self.mounts.unmount_all(lazy=force)
        except MountError as error:
            self.wake()
            raise InUseError(error.message, cure="End those, or force it: --force") from error
        self._stop_workers = True
        loop = asyncio.get_running_loop()
        loop.call_later(ANSWERED_SECONDS, self.end, "a client asked for it")
        return {"pid": os.getpid(), "stopSeconds": self.executor.stop_seconds}

    def _open_by(self) -> list[str]:
        """Programs that have a Dataset open, in words; mounts are asked for by unmounting them."""
        users = (self.reconciler.users_of(key) for key in self.reconciler.wanted)
        words = dict.fromkeys(word for words in users for word in words)
        return [word for word in words if word.startswith("process ")]

    def metrics(self) -> str:
        """See `api_server.Controlled`."""
        from fluidpy.telemetry.exposition import render  # it costs 1.4 MiB, once it is asked for

        documents = [one for plural in _COUNTED for one in self.store.list_objects(plural)]
        samples = list(object_samples(documents))
        for key in self.reconciler.wanted:
            samples += dataset_samples(key, self.reconciler.shares_of(key))
        return render(samples).decode()


def _plural_of(kind: str) -> str:
    return next(plural for plural in RUNTIME_PLURALS if plural == f"{kind.lower()}s")


def _connections(worker: PoolWorker) -> int:
    return int((worker.status or {}).get("connections", 0))


def _worker_row(worker: PoolWorker, draining: bool) -> Document:
    tiers = (worker.status or {}).get("tiers", ())
    state = "Draining" if draining and worker.is_ready else worker.state
    return {
        "name": worker.name,
        "pid": worker.pid,
        "address": worker.address,
        "state": state,
        "usedBytes": sum(int(tier["used_bytes"]) for tier in tiers),
        "capacityBytes": sum(int(tier["quota_bytes"]) for tier in tiers),
        "datasets": sorted(worker.attached),
        "restarts": worker.restarts,
        "failure": worker.failure or None,
        "runtimeDir": os.fspath(worker.settings.runtime_dir),
    }
