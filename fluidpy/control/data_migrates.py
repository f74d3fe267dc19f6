"""Carries DataMigrates out: looks at each, does what `data_migrate.reconcile` decides.

What is under way is known to this process alone, and ends with it. The next one starts it again;
what is copied is skipped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from fluidpy.api.dataset import Dataset
from fluidpy.api.operations import DataMigrate
from fluidpy.control.data_migrate import (
    MigrateDecision,
    MigrateFacts,
    Refusal,
    datasets_of,
    migrating,
    reconcile,
)
from fluidpy.control.event_log import EventLog
from fluidpy.control.load_progress import Sample, with_sample
from fluidpy.control.migration_ends import MigrationEnds
from fluidpy.control.migration_run import MigrationRun
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.operation_ends import ENDED
from fluidpy.control.operation_notes import OperationNotes, phase_before

_log = logging.getLogger(__name__)

DATA_MIGRATES: Final = "datamigrates"


class _Kept(NamedTuple):
    """A run, and what it was started for: another object of the name, or spec, is not that."""

    version: tuple[str | None, int | None]
    run: MigrationRun


class DataMigrates:
    """All DataMigrates of a control plane; `look` is to be called about once a second.

    For the thread of the running loop; nothing blocks.
    """

    def __init__(
        self,
        store: ObjectStore,
        ends: MigrationEnds,
        events: EventLog,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`clock` gives epoch seconds; `on_change` is called when one has ended."""
        self._store, self._ends, self._clock = store, ends, clock
        self._notes = OperationNotes(store, events)
        self._on_change = on_change
        self._runs: dict[ObjectKey, _Kept] = {}
        self._samples: dict[ObjectKey, tuple[Sample, ...]] = {}
        self._stopping: dict[ObjectKey, asyncio.Task[None]] = {}

    def look(self) -> None:
        """Looks at every DataMigrate once."""
        seen: set[ObjectKey] = set()
        declared = self._declared()
        for migrate in declared:
            key = _key(migrate)
            seen.add(key)
            try:
                self._look_at(key, migrate, declared)
            except Exception as error:  # noqa: BLE001 - logged, and looked at again: others go on
                _log.error("the DataMigrate %s is not carried out", migrate.name, exc_info=error)
        for key in self._notes.gone(seen) | (self._runs.keys() - seen):
            self._stop(key)

    def running(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The migrations under way by (namespace, name) of their Dataset."""
        return migrating(self._declared())

    async def close(self) -> None:
        """Gives all up; their programs have ended then."""
        for key in list(self._runs):
            self._stop(key)
        await asyncio.gather(*self._stopping.values(), return_exceptions=True)

    def _declared(self) -> list[DataMigrate]:
        return [DataMigrate.model_validate(one) for one in self._store.list_objects(DATA_MIGRATES)]

    def _look_at(
        self, key: ObjectKey, migrate: DataMigrate, declared: Sequence[DataMigrate]
    ) -> None:
        if migrate.status.phase in ENDED and migrate.spec.ttl_seconds_after_finished is None:
            self._stop(key)
            return
        version = (migrate.metadata.uid, migrate.metadata.generation)
        kept = self._runs.get(key)
        if kept is not None and kept.version != version:
            self._stop(key)
        if key in self._stopping:
            return  # two commands would write the same; its end is heard of
        run = kept.run if kept is not None else None
        facts = MigrateFacts(
            tuple((one.name, self._dataset(key, one.name)) for one in datasets_of(migrate)),
            run=None if run is None else run.seen,
            predecessor=phase_before(self._store, migrate),
            samples=self._sampled(key, run),
            other=self._other(key, migrate, declared),
        )
        decision = reconcile(migrate, facts, self._clock())
        if decision.start:
            found = self._ends.command(migrate)
            if isinstance(found, Refusal):
                decision = reconcile(migrate, replace(facts, refusal=found), self._clock())
            else:
                self._runs[key] = _Kept(version, MigrationRun(*found, self._on_change))
        self._carry_out(key, migrate, decision)

    def _carry_out(self, key: ObjectKey, migrate: DataMigrate, decision: MigrateDecision) -> None:
        if decision.stop:
            self._stop(key)
        for event in decision.events:
            self._notes.tell(key, event)
        if decision.delete:
            self._store.delete(key)
        else:
            self._notes.note(key, migrate.status, decision.status)

    def _other(self, key: ObjectKey, migrate: DataMigrate, declared: Sequence[DataMigrate]) -> str:
        """The migration that is under way for the same Dataset: one at a time, as in Fluid."""
        mine = datasets_of(migrate)[:1]
        for one in declared:
            its = _key(one)
            if its == key or one.namespace != key.namespace:
                continue
            if {each.name for each in datasets_of(one)[:1]} != {each.name for each in mine}:
                continue
            resumes = one.status.phase == "Executing" != migrate.status.phase
            if resumes or its in self._runs or its in self._stopping:
                return one.name
        return ""

    def _dataset(self, key: ObjectKey, name: str) -> Dataset | None:
        found = self._store.find(ObjectKey("datasets", key.namespace, name))
        return Dataset.model_validate(found) if found is not None else None

    def _sampled(self, key: ObjectKey, run: MigrationRun | None) -> tuple[Sample, ...]:
        if run is None:
            return ()
        sample = Sample(time.monotonic(), run.seen.copied.bytes)
        self._samples[key] = with_sample(self._samples.get(key, ()), sample)
        return self._samples[key]

    def _stop(self, key: ObjectKey) -> None:
        self._samples.pop(key, None)
        kept = self._runs.pop(key, None)
        if kept is not None:
            task = self._stopping[key] = kept.run.stop()
            task.add_done_callback(lambda _: self._stopped(key))

    def _stopped(self, key: ObjectKey) -> None:
        del self._stopping[key]
        self._on_change()


def _key(migrate: DataMigrate) -> ObjectKey:
    return ObjectKey(DATA_MIGRATES, migrate.namespace, migrate.name)
