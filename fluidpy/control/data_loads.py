"""Carries DataLoads out: looks at each, does what `data_load.reconcile` decides, notes the status.

What is under way is known to this process alone. After its death the next one asks all workers
again; what is cached is skipped, so only the looking up is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from fluidpy.api.dataset import Dataset
from fluidpy.api.operations import DataLoad
from fluidpy.control.data_load import (
    DataLoadFacts,
    LoadDecision,
    reconcile,
    running_on,
    steps_of,
)
from fluidpy.control.event_log import EventLog
from fluidpy.control.load_runs import LoadRuns, WorkerAccess
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.operation_notes import OperationNotes, phase_before

DATA_LOADS: Final = "dataloads"


class LoadPool(Protocol):
    """What loads need to know of the workers."""

    def members_of(self, dataset: str) -> frozenset[str]:
        """The workers that `namespace/name` is placed on, without those that are draining."""

    def ready_members_of(self, dataset: str) -> frozenset[str]:
        """Those of them that answer, and have the Dataset open."""

    def access_to(self, dataset: str, member: str) -> WorkerAccess:
        """How a worker is asked about a Dataset."""


class DataLoads:
    """All DataLoads of a control plane; `look` is to be called about once a second, quickly done.

    For one thread.
    """

    def __init__(
        self,
        store: ObjectStore,
        pool: LoadPool,
        events: EventLog,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`clock` gives epoch seconds; `on_change`, for any thread: it is worth to look now."""
        self._store = store
        self._pool = pool
        self._notes = OperationNotes(store, events)
        self._clock = clock
        self._runs = LoadRuns(on_change)
        self._versions: dict[ObjectKey, tuple[str | None, int | None]] = {}
        """What each is carried out for: another object of the name, or spec, is begun anew."""

    def look(self) -> None:
        """Looks at every DataLoad once."""
        seen: set[ObjectKey] = set()
        for document in self._store.list_objects(DATA_LOADS):
            load = DataLoad.model_validate(document)
            key = ObjectKey(DATA_LOADS, load.namespace, load.name)
            seen.add(key)
            version = (load.metadata.uid, load.metadata.generation)
            if self._versions.setdefault(key, version) != version:
                self._runs.forget(key)
                self._versions[key] = version
            self._carry_out(key, load, reconcile(load, self._facts(key, load), self._clock()))
        for key in self._notes.gone(seen):
            self._runs.forget(key)
            self._versions.pop(key, None)

    def running(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The loads under way by (namespace, name) of their Dataset."""
        documents = self._store.list_objects(DATA_LOADS)
        return running_on([DataLoad.model_validate(document) for document in documents])

    def close(self) -> None:
        """Lets go of the workers; the loads go on when somebody looks again."""
        self._runs.close()

    def _facts(self, key: ObjectKey, load: DataLoad) -> DataLoadFacts:
        name = load.spec.dataset.name if load.spec.dataset is not None else ""
        place = f"{load.namespace}/{name}"
        found = self._store.find(ObjectKey("datasets", load.namespace, name))
        ready = self._pool.ready_members_of(place)
        return DataLoadFacts(
            Dataset.model_validate(found) if found is not None else None,
            self._pool.members_of(place),
            frozenset(name for name in ready if self._runs.may_start(key, name)),
            self._runs.of(key),
            phase_before(self._store, load),
            self._runs.samples(key),
        )

    def _carry_out(self, key: ObjectKey, load: DataLoad, decision: LoadDecision) -> None:
        for member in decision.stop:
            self._runs.stop(key, member)
        place = f"{load.namespace}/{load.spec.dataset.name if load.spec.dataset else ''}"
        for member in decision.start:
            access = self._pool.access_to(place, member)
            pool = self._pool.members_of(place)
            self._runs.start(key, member, pool, access, steps_of(load))
        for event in decision.events:
            self._notes.tell(key, event)
        if decision.delete:
            self._store.delete(key)
        else:
            self._notes.note(key, load.status, decision.status)
