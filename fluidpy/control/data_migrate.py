"""DataMigrate: from what is declared and seen to what is done next, and its status. Pure.

One command of the engine that serves the Dataset copies all; what is in the destination already is
skipped, so after a death of the control plane it is simply started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from fluidpy.api.conditions import OperationPhase
from fluidpy.api.dataset import Dataset
from fluidpy.api.operations import (
    DataMigrate,
    DatasetToMigrate,
    OperationFailure,
    OperationProgress,
    OperationStatus,
    WaitingStatus,
)
from fluidpy.api.quantity import format_bytes
from fluidpy.control.events import Event, ObjectOfEvent, normal, warning
from fluidpy.control.load_progress import LONGEST_FAILURE, Sample, bytes_per_second
from fluidpy.control.operation_ends import ENDED, UNFINISHED, ended_status, seconds_left
from fluidpy.control.operation_waits import Waiting, for_dataset, for_predecessor
from fluidpy.runtime.migration import Copied

NOT_VALID, NOT_SUPPORTED = "DataOperationNotValid", "DataOperationNotSupport"
"""Fluid's reasons of an operation that cannot be."""

NOT_READY: Final = "DataOperationNotReady"
"""Why one waits that may be carried out in a moment."""


@dataclass(frozen=True, slots=True)
class MigrationSeen:
    """What is seen of the command: how far it is, and how it ended."""

    copied: Copied = field(default_factory=Copied)
    finished: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a migration cannot be carried out: at all, or just now."""

    reason: str
    message: str
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class MigrateFacts:
    """What is known around a DataMigrate.

    `datasets` are those it names, by name, None for one that is not there. `refusal` says why the
    engines that serve them cannot do it. `run` is None before it was started by this process.
    `other` is a migration that is under way for the same Dataset; empty if there is none.
    """

    datasets: tuple[tuple[str, Dataset | None], ...]
    refusal: Refusal | None = None
    run: MigrationSeen | None = None
    predecessor: OperationPhase | None = None
    samples: Sequence[Sample] = ()
    other: str = ""


@dataclass(frozen=True, slots=True)
class MigrateDecision:
    """What follows: the status; whether the command is to be started, or given up (`stop`); whether
    the object is to be deleted; events.
    """

    status: OperationStatus
    start: bool = False
    stop: bool = False
    delete: bool = False
    events: tuple[Event, ...] = ()


def datasets_of(migrate: DataMigrate) -> tuple[DatasetToMigrate, ...]:
    """The Datasets that a migration names: its destination first."""
    sides = (migrate.spec.to, migrate.spec.from_)
    return tuple(one.dataset for one in sides if one.dataset is not None)


def reconcile(migrate: DataMigrate, facts: MigrateFacts, now: float) -> MigrateDecision:
    """The next decision for a DataMigrate; `now` in epoch seconds."""
    if migrate.metadata.deletion_timestamp is not None:
        return MigrateDecision(migrate.status, stop=True)
    if migrate.status.phase in ENDED:
        left = seconds_left(migrate, migrate.status, now)
        return MigrateDecision(migrate.status, stop=True, delete=left is not None and left <= 0)
    waiting = _waits_for(migrate, facts)
    if facts.run is not None:
        if waiting is not None and _is_deleted(facts) and not facts.run.finished:
            return replace(_pending(migrate, waiting, now), stop=True)
        return _under_way(migrate, facts, facts.run, now)
    if waiting is not None:
        return _pending(migrate, waiting, now)
    if facts.refusal is not None:
        if not facts.refusal.lasting:
            waiting = Waiting(facts.refusal.reason, facts.refusal.message)
            return _pending(migrate, waiting, now)
        why = facts.refusal
        return _end(migrate, migrate.status, "Failed", why.reason, why.message, now)
    return _start(migrate, now)


def _waits_for(migrate: DataMigrate, facts: MigrateFacts) -> Waiting | None:
    waits = (for_dataset(name, dataset) for name, dataset in facts.datasets)
    waiting = for_predecessor(migrate, facts.predecessor) or next(filter(None, waits), None)
    if waiting is not None:
        return waiting
    if facts.other:
        message = f"waits for the DataMigrate {facts.other}, which is under way for its Dataset"
        return Waiting("DataOperationWaiting", message)
    return None


def _is_deleted(facts: MigrateFacts) -> bool:
    found = (dataset for _, dataset in facts.datasets if dataset is not None)
    return any(one.metadata.deletion_timestamp is not None for one in found)


def _pending(migrate: DataMigrate, why: Waiting, now: float) -> MigrateDecision:
    waiting = WaitingStatus(operation_complete=True) if why.for_operation else None
    status = _now(migrate, migrate.status, phase="Pending", waiting_for=waiting)
    event = warning(ObjectOfEvent.of(migrate), why.reason, why.message, now)
    return MigrateDecision(status, events=(event,))


def _start(migrate: DataMigrate, now: float) -> MigrateDecision:
    about = ObjectOfEvent.of(migrate)
    again = migrate.status.phase == "Executing"
    reason = "DataMigrateResumed" if again else "DataMigrateJobStarted"
    message = "it is started again; what is copied is skipped" if again else "copying"
    status = _now(migrate, migrate.status, phase="Executing", waiting_for=None)
    return MigrateDecision(status, start=True, events=(normal(about, reason, message, now),))


def _under_way(
    migrate: DataMigrate, facts: MigrateFacts, run: MigrationSeen, now: float
) -> MigrateDecision:
    reached = progress(run.copied, facts.samples)
    status = _now(migrate, migrate.status, phase="Executing", progress=reached)
    if not run.finished:
        return MigrateDecision(status)
    copied = run.copied
    if run.error:
        named = "; ".join(f"{path}: {message[:200]}" for path, message in copied.failures[:3])
        message = f"{run.error}: {named}" if named else run.error
        return _end(migrate, status, "Failed", "DataMigrateFailed", message, now)
    if not copied.found and not copied.excluded:
        message = "nothing was found at the source; look at its path"
        return _end(migrate, status, "Failed", "DataMigrateFailed", message, now)
    message = f"{copied.done} objects, {format_bytes(copied.bytes)}, are in the destination"
    return _end(migrate, status, "Complete", "DataMigrateComplete", message, now)


def _end(
    migrate: DataMigrate,
    status: OperationStatus,
    phase: Literal["Complete", "Failed"],
    reason: str,
    message: str,
    now: float,
) -> MigrateDecision:
    about = ObjectOfEvent.of(migrate)
    ended = ended_status(migrate, status, phase, reason, message, now)
    if phase == "Complete":
        event = normal(about, "DataMigrateJobComplete", message, now)
    else:
        known = reason in (NOT_VALID, NOT_SUPPORTED)
        event = warning(about, reason if known else "DataMigrateJobFailed", message, now)
    return MigrateDecision(ended, events=(event,))


def _now(migrate: DataMigrate, status: OperationStatus, **changes: object) -> OperationStatus:
    generation = migrate.metadata.generation
    common = {"duration": UNFINISHED, "observed_generation": generation}
    return status.model_copy(update={**common, **changes})


def progress(copied: Copied, samples: Sequence[Sample]) -> OperationProgress:
    """How far it is, as the status has it: the bytes that are left are not known."""
    return OperationProgress(
        files=copied.done,
        files_total=copied.found,
        bytes=copied.bytes,
        bytes_total=copied.bytes,
        bytes_per_second=bytes_per_second(samples),
        failed=copied.failed,
        failures=[
            OperationFailure(path=path, message=message[:LONGEST_FAILURE])
            for path, message in copied.failures
        ],
    )


def migrating(migrates: Sequence[DataMigrate]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Migrations under way by (namespace, name) of the Dataset that they count for, as in Fluid:
    the destination, or else the source.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for one in migrates:
        if one.status.phase == "Executing" and (datasets := datasets_of(one)):
            found.setdefault((one.namespace, datasets[0].name), []).append(one.name)
    return {key: tuple(sorted(names)) for key, names in found.items()}
