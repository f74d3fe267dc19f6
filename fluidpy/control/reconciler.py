"""From objects to the world and back: one step looks at all of it, and does what is next.

Decisions are elsewhere and pure (`demands`, `pool_plan`, `dataset_status`, `runtime_status`); here
they are put together. A step never waits: workers and mounts have tasks of their own.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fluidpy.api.dataset import Dataset
from fluidpy.api.kinds import KINDS
from fluidpy.api.problem import LoadedObject
from fluidpy.api.serialisation import to_dict
from fluidpy.control.admission import Admission
from fluidpy.control.api_server import FINALIZERS
from fluidpy.control.dataset_status import (
    GRACE_SECONDS,
    DatasetFacts,
    Trouble,
    dataset_status,
    why_deletion_waits,
)
from fluidpy.control.declared_mounts import DeclaredMounts
from fluidpy.control.demands import (
    RUNTIME_KINDS,
    Wanted,
    WantedDatasets,
    default_runtime,
    is_default,
    runtime_reference,
    runtimes_by_name,
)
from fluidpy.control.event_log import EventLog
from fluidpy.control.events import ObjectOfEvent, normal, warning
from fluidpy.control.members_in_use import client_pids, held_by_mounts, used_by_mounts
from fluidpy.control.move_watch import MoveWatch
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.observed import SourceTotals, WorkerShare, source_totals
from fluidpy.control.pool_plan import PoolFacts, plan_pool
from fluidpy.control.pool_worker import PoolWorker
from fluidpy.control.recent_reads import RecentReads
from fluidpy.control.runtime_choice import keeps_bytes
from fluidpy.control.runtime_executor import RuntimeExecutor
from fluidpy.control.runtime_keeper import Assignment
from fluidpy.control.runtime_status import RuntimeFacts, runtime_status
from fluidpy.control.worker_pool import WorkerPool
from fluidpy.errors import ControlPlaneError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.runtime.driver import EngineDriver, RuntimeState
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 5.0
"""Time until a Dataset that cannot be resolved is tried again: a Secret's file may be there now."""


class Reconciler:
    """Makes what is declared come true, a step at a time."""

    def __init__(
        self,
        store: ObjectStore,
        admission: Admission,
        pool: WorkerPool,
        mounts: DeclaredMounts,
        events: EventLog,
        settings: Settings,
        executor: RuntimeExecutor,
    ) -> None:
        """Does nothing yet."""
        self._store, self._admission, self._pool = store, admission, pool
        self._mounts, self._events, self._settings = mounts, events, settings
        self._executor = executor
        self.wanted: dict[str, Wanted] = {}
        self.definitions: dict[str, DatasetDefinition] = {}
        """What each Dataset is served by: the last definition that could be resolved."""
        self.operations: Mapping[tuple[str, str], tuple[str, ...]] = {}
        """DataLoads under way, by namespace and name of their Dataset."""
        self.migrations: Mapping[tuple[str, str], tuple[str, ...]] = {}
        """DataMigrates under way, likewise."""
        self.totals: dict[str, SourceTotals | None] = {}
        """What each Dataset's workers know of its source."""
        self._runtimes: dict[ObjectKey, LoadedObject] = {}
        self._rows: list[Document] = []
        self._wishes = WantedDatasets(settings)
        self._noted: dict[str, object] = {}
        self._resolved = (-1, 0.0)
        self._served: dict[str, int] = {}
        self._assignments: dict[str, Assignment] = {}
        self._unready_since: dict[str, float] = {}
        self._moves = MoveWatch()
        self._reads: defaultdict[str, RecentReads] = defaultdict(RecentReads)

    def step(self) -> None:
        """Looks at all objects and workers, and does what is next."""
        objects = self._admission.stored()
        if self._mend_runtimes(objects):
            objects = self._admission.stored()
        self._runtimes = {
            _key(one.object.kind, one): one for one in objects if one.object.kind in RUNTIME_KINDS
        }
        self._rows = self._mounts.rows()
        self._resolve(objects)
        releasing = self._releasing()
        self._plan()
        served = {k: v for k, v in self.definitions.items() if k not in releasing}
        self._pool.want(served, releasing)
        self._want_runtimes(releasing)
        self._finish_deletions(releasing)
        self._mounts.look()
        for one in objects:
            if isinstance(one.object, Dataset) and (key := _name(one)) in self.wanted:
                try:
                    self._note(one, self.wanted[key])
                except ControlPlaneError as error:  # the disk may be full: others are noted
                    _log.error("the status of the Dataset %s is not noted: %s", key, error)

    def workers_of(self, key: str) -> list[PoolWorker]:
        """The workers that a Dataset lies on."""
        placed = self._pool.membership.datasets.get(key)
        names = () if placed is None else placed.members
        return [self._pool.workers[name] for name in names if name in self._pool.workers]

    def is_readable(self, key: str) -> bool:
        """Whether what the workers of a Dataset read is there; its runtime may have to mount it."""
        wanted = self.wanted.get(key)
        if wanted is None or wanted.assignment is None:
            return True
        state = self._executor.state(key)
        return state is not None and state.ready

    def runtime_of(self, key: str) -> Assignment | None:
        """What runs for a Dataset beside the workers; None if nothing does."""
        return self._assignments.get(key)

    def engine_of(self, key: str) -> Assignment | None:
        """The engine that fills its own cache with a Dataset; None where the workers do."""
        one, definition = self._assignments.get(key), self.definitions.get(key)
        if one is None or not isinstance(one.driver, EngineDriver):
            return None
        return None if definition is not None and keeps_bytes(definition) else one

    def shares_of(self, key: str) -> tuple[WorkerShare, ...]:
        """What each of those workers says of the Dataset."""
        shares = (_share(worker, key) for worker in self.workers_of(key))
        if self.is_readable(key):
            return tuple(shares)
        return tuple(replace(share, ready=False) for share in shares)

    def users_of(self, key: str) -> tuple[str, ...]:
        """Who uses a Dataset, in words: mounts, and processes that have it open."""
        namespace, _, name = key.partition("/")
        rows = [row for row in self._rows if _is_of(row, namespace, name)]
        words = [f"the mount {row['mountPoint']}" for row in rows]
        known = {os.getpid(), *(int(row.get("serverPid", 0)) for row in rows)}
        for worker in self._pool.workers.values():
            pids = client_pids(worker, key) - known
            words += [f"process {pid}{_command(pid)}" for pid in sorted(pids)]
        return tuple(dict.fromkeys(words))

    def _mend_runtimes(self, objects: Sequence[LoadedObject]) -> bool:
        """Gives a Dataset without a runtime the default one, which gives way to any other."""
        changed = False
        datasets = {_name(one): one for one in objects if isinstance(one.object, Dataset)}
        runtimes = runtimes_by_name(objects)
        for name, one in datasets.items():
            found = runtimes.get(name, [])
            if not found and one.object.metadata.deletion_timestamp is None:
                document = default_runtime(one.object)
                self._store.create(_key("CacheRuntime", one), document)
                changed = True
            for other in found[1:]:
                if is_default(other.object):
                    self._store.delete(_key(other.object.kind, other))
                    changed = True
        for one in objects:
            left = one.object.kind in RUNTIME_KINDS and _name(one) not in datasets
            if left and is_default(one.object):
                self._store.delete(_key(one.object.kind, one))
                changed = True
        return changed

    def _resolve(self, objects: Sequence[LoadedObject]) -> None:
        """Definitions change with declarations only; what could not be resolved is tried again."""
        now = time.monotonic()
        troubled = any(one.trouble is not None for one in self.wanted.values())
        at, when = self._resolved
        if at == self._store.declarations and not (troubled and now - when > AGAIN_SECONDS):
            return
        self.wanted = {one.key: one for one in self._wishes.of(objects)}
        self._resolved = self._store.declarations, now
        for key, one in self.wanted.items():
            if one.definition is not None:
                self.definitions[key] = one.definition
        for key in self.definitions.keys() - self.wanted.keys():
            del self.definitions[key]

    def _plan(self) -> None:
        current = self._pool.membership
        moving = {key for key, one in current.datasets.items() if one.previous}
        overdue = self._moves.stalled(moving, self._pool.moved_bytes, time.monotonic())
        used = used_by_mounts(self._pool.workers, self._rows, self.wanted)
        held = held_by_mounts(used, self.definitions, self.workers_of)
        facts = PoolFacts(self._pool.is_settled(), overdue, frozenset(used), held)
        plan = plan_pool(current, [one.demand for one in self.wanted.values()], facts)
        self._pool.carry_out(plan)

    def _releasing(self) -> set[str]:
        """Datasets to be deleted that nobody uses any more."""
        found = {k for k, v in self.wanted.items() if v.deleting and self._pool.knows_users_of(k)}
        return {key for key in found if not self.users_of(key)}

    def _want_runtimes(self, releasing: set[str]) -> None:
        """Of a Dataset that cannot be resolved just now, its runtime stays as it was."""
        for key, one in self.wanted.items():
            if one.trouble is None:
                self._assignments.pop(key, None)
                if one.assignment is not None:
                    self._assignments[key] = one.assignment
        kept = self.wanted.keys() - releasing
        self._assignments = {k: v for k, v in self._assignments.items() if k in kept}
        self._executor.want(
            self._assignments,
            unknown={key for key in kept if self.wanted[key].trouble is not None},
            deleted={key: self.wanted[key].assignment for key in releasing},
        )

    def _finish_deletions(self, releasing: set[str]) -> None:
        for key in releasing:
            if any(key in worker.attached for worker in self._pool.workers.values()):
                continue
            if self._executor.is_there(key):
                continue
            one = self.wanted[key].dataset
            self._events.record(
                normal(_about(one), "DatasetDeleted", "nobody uses it any more", _now())
            )
            for finalizer in FINALIZERS["datasets"]:
                self._store.finalize(_key("Dataset", one), finalizer)
            self._served.pop(key, None)
            self._noted.pop(key, None)
            self._reads.pop(key, None)
            self.totals.pop(key, None)

    def _note(self, one: LoadedObject, wanted: Wanted) -> None:
        """What is seen of a Dataset and its runtime goes into their statuses."""
        key = _key("Dataset", one)
        if self._store.find(key) is None:
            return
        assert isinstance(one.object, Dataset)
        facts = self._facts(one.object, wanted)
        mark = self._mark(one, wanted, facts)
        if self._noted.get(wanted.key) == mark:
            return
        status = dataset_status(one.object, facts, _now())
        self._store.set_status(key, to_dict(status))
        if status.phase != one.object.status.phase:
            self._tell_phase(one, one.object.status.phase, status.phase)
        if wanted.deleting and (why := why_deletion_waits(facts)):
            self._events.record(warning(_about(one), *why, _now()))
        if wanted.runtime is not None:
            self._note_runtime(wanted, facts)
        self._noted[wanted.key] = mark

    def _mark(self, one: LoadedObject, wanted: Wanted, facts: DatasetFacts) -> object:
        """What a status follows from, but for the time."""
        shares = tuple(replace(share, seconds=0.0) for share in facts.shares)
        timeless = replace(
            facts, shares=shares, unready_seconds=float(facts.unready_seconds > GRACE_SECONDS)
        )
        rows = [row for row in self._rows if f"{row['namespace']}/{row['dataset']}" == wanted.key]
        runtime = None if wanted.runtime is None else wanted.runtime.object.kind
        return (one, timeless, wanted.demand, runtime, rows)

    def _tell_phase(self, one: LoadedObject, before: str, after: str) -> None:
        make = warning if after == "Failed" else normal
        message = f"the Dataset was {before or 'new'} and is {after}"
        self._events.record(make(_about(one), f"Dataset{after}", message, _now()))

    def _facts(self, dataset: Dataset, wanted: Wanted) -> DatasetFacts:
        workers = self.workers_of(wanted.key)
        ready = [worker for worker in workers if worker.is_ready]
        if not self.is_readable(wanted.key):
            ready = []
        state = self._executor.state(wanted.key) if wanted.assignment is not None else None
        definition = self.definitions.get(wanted.key)
        known = definition if wanted.trouble is None and ready else None
        if known is not None and all(worker.serves(known) for worker in ready):
            self._served[wanted.key] = dataset.metadata.generation or 1
        now, shares = time.monotonic(), self.shares_of(wanted.key)
        self.totals[wanted.key] = _totals(state) or source_totals(shares)
        if ready:
            self._unready_since.pop(wanted.key, None)
        since = self._unready_since.setdefault(wanted.key, now) if not ready else now
        served = self._served.get(wanted.key)
        troubles = [w.troubles[wanted.key] for w in workers if wanted.key in w.troubles]
        if state is not None and state.reason and not state.ready:
            troubles.insert(0, Trouble("RuntimeNotReady", state.reason, lasting=False))
        return DatasetFacts(
            runtime=None if wanted.runtime is None else runtime_reference(wanted.runtime.object),
            shares=shares,
            lately=self._reads[wanted.key].note(shares, now),
            replicas=max(1, min(wanted.demand.copies, len(shares))),
            served_mounts=tuple(dataset.spec.mounts) if served is not None else (),
            served_generation=served,
            unready_seconds=now - since,
            trouble=wanted.trouble or next(iter(troubles), None),
            operations=self._operations_on(dataset),
            users=self.users_of(wanted.key) if wanted.deleting else (),
            not_ended=self._executor.why_not_ended(wanted.key) if wanted.deleting else "",
            runs_as_before=wanted.trouble is not None and self._executor.is_there(wanted.key),
            engine_states={} if state is None else state.cache_states,
            engine_totals=_totals(state),
        )

    def _why_not_ready(self, key: str, facts: DatasetFacts) -> str:
        failures = (worker.failure for worker in self.workers_of(key) if worker.failure)
        trouble = facts.trouble.message if facts.trouble is not None else ""
        return next(failures, trouble)

    def _operations_on(self, dataset: Dataset) -> dict[str, tuple[str, ...]]:
        place = (dataset.namespace, dataset.name)
        running = {"DataLoad": self.operations, "DataMigrate": self.migrations}
        return {kind: named[place] for kind, named in running.items() if named.get(place)}

    def _note_runtime(self, wanted: Wanted, facts: DatasetFacts) -> None:
        assert wanted.runtime is not None
        key = _key(wanted.runtime.object.kind, wanted.runtime)
        current = self._runtimes.get(key)
        if current is None or self._store.find(key) is None:
            return
        mounts = [row for row in self._rows if _is_of(row, key.namespace, key.name)]
        seen = RuntimeFacts(
            desired_workers=wanted.demand.workers,
            current_workers=len(facts.shares),
            ready_workers=sum(share.ready for share in facts.shares),
            desired_mounts=len(mounts),
            ready_mounts=sum("holderPid" in row for row in mounts),
            mounts=facts.served_mounts,
            reason=self._why_not_ready(wanted.key, facts),
            cache_states=facts.engine_states,
            engine=wanted.choice.plugin if wanted.choice is not None else "",
            missing=wanted.choice.missing if wanted.choice is not None else "",
            image=wanted.choice.image if wanted.choice is not None else "",
        )
        self._store.set_status(key, to_dict(runtime_status(current.object, seen, _now())))


def _totals(state: RuntimeState | None) -> SourceTotals | None:
    if state is None or state.files is None or state.bytes is None:
        return None
    return SourceTotals(state.files, state.bytes, complete=True)


def _now() -> float:
    return time.time()


def _name(one: LoadedObject) -> str:
    return f"{one.object.namespace}/{one.object.name}"


def _key(kind: str, one: LoadedObject) -> ObjectKey:
    return ObjectKey(KINDS[kind].plural, one.object.namespace, one.object.name)


def _about(one: LoadedObject) -> ObjectOfEvent:
    return ObjectOfEvent.of(one.object)


def _is_of(row: dict[str, object], namespace: str, name: str) -> bool:
    return (row["namespace"], row["dataset"]) == (namespace, name)


def _share(worker: PoolWorker, key: str) -> WorkerShare:
    if worker.status is None or not worker.is_ready:
        return WorkerShare(worker.name, ready=False)
    share = WorkerShare.from_status(worker.name, worker.status, key)
    return share if key in worker.attached else replace(share, ready=False)


def _command(pid: int) -> str:
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return ""
