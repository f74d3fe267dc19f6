"""DataLoad: from what is declared and seen to what its workers do next, and its status. Pure.

A load is split over the workers of its Dataset: each loads the files it owns. A worker that died is
asked again once it is ready; what is cached is skipped, so that costs little. When workers come or
go, owners change, and all are asked again. Only when every worker of one and the same set has
finished its share without a failure is the load Complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from fluidpy.api.conditions import OperationPhase
from fluidpy.api.dataset import Dataset
from fluidpy.api.operations import DataLoad, OperationStatus, TargetPath, WaitingStatus
from fluidpy.control.events import Event, ObjectOfEvent, normal, warning
from fluidpy.control.load_progress import NOTHING, MemberCounts, Sample, progress, total
from fluidpy.control.operation_ends import ENDED, UNFINISHED, ended_status, seconds_left
from fluidpy.control.operation_waits import Waiting, for_dataset, for_predecessor

METADATA_ONLY: Final = "loadMetadataOnly"
"""The option (Jindo's word) by which a DataLoad lists names and sizes and fetches no bytes."""


@dataclass(frozen=True, slots=True)
class LoadStep:
    """Paths that are loaded with the same number of copies, by one request to each worker.

    `gently`: nobody waits for it.
    """

    paths: tuple[str, ...]
    replicas: int
    metadata_only: bool = False
    gently: bool = False
    options: tuple[tuple[str, str], ...] = ()
    """What the DataLoad says to the engine that carries it out."""


@dataclass(frozen=True, slots=True)
class MemberRun:
    """What one worker does for a load. `pool` is the set of workers it was started among.

    `error` ends a run that could not be carried through, such as by a worker that died; a file that
    could not be read is no error but counted in `counts.failed`.
    """

    member: str
    pool: frozenset[str]
    counts: MemberCounts = NOTHING
    finished: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class DataLoadFacts:
    """What is known around a DataLoad.

    `pool` are the workers that the Dataset is placed on, `ready` those of them that answer. `runs`
    are by worker. `predecessor` is the phase of the operation in `runAfter`, None when it is not
    there. `samples` are bytes done over time.
    """

    dataset: Dataset | None
    pool: frozenset[str] = frozenset()
    ready: frozenset[str] = frozenset()
    runs: Mapping[str, MemberRun] = field(default_factory=dict)
    predecessor: OperationPhase | None = None
    samples: Sequence[Sample] = ()


@dataclass(frozen=True, slots=True)
class LoadDecision:
    """What follows: the status; workers to `start`, and to forget (`stop`); whether the object is
    to be deleted; events; after how many seconds to look again (None: when facts change).
    """

    status: OperationStatus
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    delete: bool = False
    events: tuple[Event, ...] = ()
    again_in: float | None = None


def steps_of(load: DataLoad) -> tuple[LoadStep, ...]:
    """What each worker is asked to do, one request after the other: everything by default.

    Copies below 1 are read as 1, as in Fluid.
    """
    targets = load.spec.target or [TargetPath(path="/")]
    only = load.spec.options.get(METADATA_ONLY, "").lower() == "true"
    options = tuple(sorted(load.spec.options.items()))
    wanted = sorted((max(1, one.replicas), number) for number, one in enumerate(targets))
    return tuple(
        LoadStep(
            tuple(targets[number].path for _, number in group), replicas, only, options=options
        )
        for replicas, group in groupby(wanted, key=lambda pair: pair[0])
    )


def reconcile(load: DataLoad, facts: DataLoadFacts, now: float) -> LoadDecision:
    """The next decision for a DataLoad; `now` in epoch seconds."""
    if load.metadata.deletion_timestamp is not None:
        return LoadDecision(load.status, stop=tuple(facts.runs))
    if load.status.phase in ENDED:
        return _ended(load, facts, now)
    if (waiting := _waits_for(load, facts)) is not None:
        return _pending(load, facts, waiting, now)
    return _executing(load, facts, now)


def _waits_for(load: DataLoad, facts: DataLoadFacts) -> Waiting | None:
    name = load.spec.dataset.name if load.spec.dataset is not None else ""
    waiting = for_predecessor(load, facts.predecessor) or for_dataset(name, facts.dataset)
    if waiting is not None or facts.dataset is None:
        return waiting
    if facts.dataset.status.phase == "DataMigrating" and load.status.phase != "Executing":
        # Half of what is being copied would be missing, and nobody would be told.
        message = f"waits for the DataMigrate of the Dataset {name}, which is under way"
        return Waiting("DataOperationWaiting", message, for_operation=True)
    if not facts.pool:
        return Waiting("RuntimeNotReady", f"waits for a worker of the Dataset {name}")
    return None


def _pending(load: DataLoad, facts: DataLoadFacts, why: Waiting, now: float) -> LoadDecision:
    executing = load.status.phase == "Executing"
    status = load.status.model_copy(
        update={
            "phase": "Executing" if executing else "Pending",
            "duration": UNFINISHED,
            "waiting_for": WaitingStatus(operation_complete=True) if why.for_operation else None,
            "observed_generation": load.metadata.generation,
        }
    )
    event = warning(ObjectOfEvent.of(load), why.reason, why.message, now)
    # Under way the Dataset may be away for a moment; its workers' runs end by themselves.
    return LoadDecision(status, events=(event,))


def _executing(load: DataLoad, facts: DataLoadFacts, now: float) -> LoadDecision:
    current = {
        name: run
        for name, run in facts.runs.items()
        if run.pool == facts.pool and name in facts.pool
    }
    stop = tuple(name for name in facts.runs if name not in current)
    start = tuple(
        sorted(
            name
            for name in facts.pool & facts.ready
            if name not in current or (current[name].error and not current[name].finished)
        )
    )
    status = load.status.model_copy(
        update={
            "phase": "Executing",
            "duration": UNFINISHED,
            "waiting_for": None,
            "progress": progress(total(run.counts for run in current.values()), facts.samples),
            "observed_generation": load.metadata.generation,
        }
    )
    events: list[Event] = []
    about = ObjectOfEvent.of(load)
    if load.status.phase != "Executing":
        workers = "1 worker" if len(facts.pool) == 1 else f"{len(facts.pool)} workers"
        events.append(normal(about, "DataLoadJobStarted", f"loading by {workers}", now))
    events += [
        warning(about, "DataLoadResumed", f"{name} is asked again: {run.error}", now)
        for name, run in sorted(current.items())
        if name in start and run.error
    ]
    if current.keys() == facts.pool and all(run.finished for run in current.values()):
        return _finish(load, status, tuple(current.values()), now)
    return LoadDecision(status, start, stop, events=tuple(events))


def _finish(
    load: DataLoad, status: OperationStatus, runs: Sequence[MemberRun], now: float
) -> LoadDecision:
    counts = total(run.counts for run in runs)
    metadata_only = all(step.metadata_only for step in steps_of(load))
    missing = 0 if metadata_only else counts.files - counts.done_files - counts.failed
    about = ObjectOfEvent.of(load)
    if counts.failed or missing > 0:
        message = _shortfall(counts, missing)
        ended = ended_status(load, status, "Failed", "DataLoadFailed", message, now)
        event = warning(about, "DataLoadJobFailed", message, now)
    else:
        what = "listed" if metadata_only else "in the cache"
        message = f"{counts.files} files, {counts.bytes} bytes are {what}"
        ended = ended_status(load, status, "Complete", "DataLoadComplete", message, now)
        event = normal(about, "DataLoadJobComplete", message, now)
    return LoadDecision(ended, events=(event,), again_in=seconds_left(load, ended, now))


def _shortfall(counts: MemberCounts, missing: int) -> str:
    if not counts.failed:
        return f"{missing} of {counts.files} files are not in the cache; apply the DataLoad again"
    named = "; ".join(f"{path}: {message[:200]}" for path, message in counts.failures[:3])
    return f"{counts.failed} of {counts.files} files could not be loaded: {named}"


def _ended(load: DataLoad, facts: DataLoadFacts, now: float) -> LoadDecision:
    left = seconds_left(load, load.status, now)
    over = left is not None and left <= 0
    return LoadDecision(
        load.status, stop=tuple(facts.runs), delete=over, again_in=None if over else left
    )


def running_on(loads: Sequence[DataLoad]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The loads under way by (namespace, name) of their Dataset: what `operationRef` shows."""
    found: dict[tuple[str, str], list[str]] = {}
    for load in loads:
        if load.status.phase == "Executing" and load.spec.dataset is not None:
            found.setdefault((load.namespace, load.spec.dataset.name), []).append(load.name)
    return {key: tuple(sorted(names)) for key, names in found.items()}
