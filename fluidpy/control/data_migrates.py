"""Carries DataMigrates out: looks at each, does what `data_migrate.reconcile` decides.

What is under way is known to this process alone, and ends with it. The next one starts it again;
what is copied is skipped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

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

DATA_MIGRATES: Final = "datamigrates"


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
        self._runs: dict[ObjectKey, MigrationRun] = {}
        self._samples: dict[ObjectKey, tuple[Sample, ...]] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Looks at every DataMigrate once."""
        seen: set[ObjectKey] = set()
        for migrate in self._declared():
            key = ObjectKey(DATA_MIGRATES, migrate.namespace, migrate.name)
            seen.add(key)
            self._look_at(key, migrate)
        for key in self._notes.gone(seen) | (self._runs.keys() - seen):
            self._stop(key)

    def running(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The migrations under way by (namespace, name) of their Dataset."""
        return migrating(self._declared())

    async def close(self) -> None:
        """Gives all up; their programs have ended then."""
        for key in list(self._runs):
            self._stop(key)
        await asyncio.gather(*self._stopping, return_exceptions=True)

    def _declared(self) -> list[DataMigrate]:
        return [DataMigrate.model_validate(one) for one in self._store.list_objects(DATA_MIGRATES)]

    def _look_at(self, key: ObjectKey, migrate: DataMigrate) -> None:
        if migrate.status.phase in ENDED and migrate.spec.ttl_seconds_after_finished is None:
            self._stop(key)
            return
        run = self._runs.get(key)
        found = None if run is not None else self._ends.command(migrate)
        facts = MigrateFacts(
            tuple((one.name, self._dataset(key, one.name)) for one in datasets_of(migrate)),
            found if isinstance(found, Refusal) else None,
            None if run is None else run.seen,
            phase_before(self._store, migrate),
            self._sampled(key, run),
        )
        decision = reconcile(migrate, facts, self._clock())
        if decision.start and found is not None and not isinstance(found, Refusal):
            self._runs[key] = MigrationRun(*found, self._on_change)
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
        run = self._runs.pop(key, None)
        if run is not None:
            task = run.stop()
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
