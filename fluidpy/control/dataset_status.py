"""What a Dataset says of itself: phase, conditions, mounts, sizes, cache states. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fluidpy.api.conditions import DatasetCondition, DatasetPhase
from fluidpy.api.dataset import Dataset, DatasetStatus, Mount, RuntimeReference
from fluidpy.api.quantity import format_bytes
from fluidpy.control.cache_states import CALCULATING, ReadBytes, cache_states
from fluidpy.control.conditions import set_condition, status_of, without
from fluidpy.control.moments import timestamp
from fluidpy.control.observed import SourceTotals, WorkerShare, source_totals

GRACE_SECONDS: Final = 10.0
"""How long a Dataset stays Bound with no worker that answers: one that died is there again within
a second or two, and readers wait for it meanwhile."""

IN_USE: Final = "DeletionWaiting"
READ_ONLY: Final = "ReadOnlyServed"
RUNS_AS_BEFORE: Final = "RunsAsBefore"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something cannot be as it is declared: one CamelCase word, and text for people.

    `lasting` is for what does not mend by waiting, such as a source that refuses the key.
    """

    reason: str
    message: str
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What is known of a Dataset at one moment.

    `served_generation` is the generation whose mounts all ready workers serve, None before the
    first. `unready_seconds` is how long no worker has answered. `users` are whoever keeps the
    Dataset from being deleted, in words; `not_ended` why its runtime does not end. `lately` is what
    was read since some seconds. `runs_as_before`: it cannot be told how its runtime is to run now.
    """

    runtime: RuntimeReference | None
    shares: tuple[WorkerShare, ...] = ()
    served_mounts: tuple[Mount, ...] = ()
    served_generation: int | None = None
    unready_seconds: float = 0.0
    trouble: Trouble | None = None
    users: tuple[str, ...] = ()
    not_ended: str = ""
    runs_as_before: bool = False
    operations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    referred_by: tuple[str, ...] = ()
    lately: ReadBytes | None = None
    replicas: int = 1
    engine_states: Mapping[str, str] = field(default_factory=dict)
    """What the engine says of its cache, where one serves the Dataset."""
    engine_totals: SourceTotals | None = None
    """What the engine says of the source."""


def dataset_status(dataset: Dataset, facts: DatasetFacts, now: float) -> DatasetStatus:
    """The status of a Dataset, following from its last one and what is seen `now` (epoch seconds).

    Nothing of it changes when nothing but the time did.
    """
    phase = next_phase(dataset, facts)
    totals = facts.engine_totals or source_totals(facts.shares)
    last = dataset.status
    known = totals is not None and totals.complete
    files = str(totals.files) if totals is not None and known else CALCULATING
    size = format_bytes(totals.bytes) if totals is not None and known else CALCULATING
    bound = phase not in ("", "NotBound", "Pending")
    return DatasetStatus(
        phase=phase,
        mounts=[_without_secrets(mount) for mount in facts.served_mounts],
        runtimes=[facts.runtime] if facts.runtime is not None else [],
        conditions=_conditions(dataset, facts, phase, now),
        # While workers restart, the last sizes are better than none.
        ufs_total=(size if known else last.ufs_total or size) if bound else None,
        file_num=(files if known else last.file_num or files) if bound else None,
        cache_states=_states(dataset, facts) if bound else {},
        operation_ref={kind: ",".join(names) for kind, names in facts.operations.items() if names},
        dataset_ref=list(facts.referred_by),
        observed_generation=dataset.metadata.generation,
    )


def next_phase(dataset: Dataset, facts: DatasetFacts) -> DatasetPhase:
    """The phase: NotBound, Bound, Updating, DataMigrating or Failed, as Fluid has them."""
    was_bound = dataset.status.phase in ("Bound", "Updating", "Failed", "DataMigrating")
    if facts.runtime is None:
        return "NotBound"
    ready = any(share.ready for share in facts.shares)
    if facts.trouble is not None and facts.trouble.lasting and not ready:
        return "Failed"
    if not ready or facts.served_generation is None:
        if not was_bound:
            return "NotBound"
        return "Failed" if facts.unready_seconds > GRACE_SECONDS else dataset.status.phase
    if not _is_current(dataset, facts):
        return "Updating"
    return "DataMigrating" if facts.operations.get("DataMigrate") else "Bound"


def _is_current(dataset: Dataset, facts: DatasetFacts) -> bool:
    return facts.served_generation == dataset.metadata.generation


def _states(dataset: Dataset, facts: DatasetFacts) -> dict[str, str]:
    if not any(share.ready for share in facts.shares):
        return dict(dataset.status.cache_states)
    if facts.engine_states:
        return dict(facts.engine_states)
    return cache_states(facts.shares, facts.lately, facts.replicas)


def _without_secrets(mount: Mount) -> Mount:
    """A mount as the status shows it: Secrets are named in it, and clear options left out."""
    return mount.model_copy(update={"options": {}})


def _conditions(
    dataset: Dataset, facts: DatasetFacts, phase: DatasetPhase, now: float
) -> list[DatasetCondition]:
    conditions: Sequence[DatasetCondition] = dataset.status.conditions
    for kind, holds, reason, message in _findings(dataset, facts, phase):
        new = DatasetCondition(
            type=kind,
            status=status_of(holds),
            reason=reason,
            message=message,
            last_update_time=timestamp(now),
            last_transition_time=timestamp(now),
            observed_generation=dataset.metadata.generation,
        )
        conditions = set_condition(conditions, new)
    if not (dataset.metadata.deletion_timestamp and why_deletion_waits(facts)):
        conditions = without(conditions, IN_USE)
    if not facts.runs_as_before:
        conditions = without(conditions, RUNS_AS_BEFORE)
    if not _wants_writes(dataset):
        conditions = without(conditions, READ_ONLY)
    return list(conditions)


def _findings(
    dataset: Dataset, facts: DatasetFacts, phase: DatasetPhase
) -> list[tuple[str, bool, str, str]]:
    found = [_ready(facts, phase)]
    if phase == "Updating":
        why = "the mounts were edited; workers take them over"
        if facts.trouble is not None:
            why = f"the edited mounts are not served yet: {facts.trouble.message}"
        found.append(("Updating", True, "DatasetUpdating", why))
    elif any(one.type == "Updating" for one in dataset.status.conditions) and phase in (
        "Bound",
        "DataMigrating",
    ):
        found.append(("Updating", False, "DatasetReady", "the mounts are served as declared"))
    if dataset.metadata.deletion_timestamp and (waits := why_deletion_waits(facts)):
        found.append((IN_USE, True, *waits))
    if facts.runs_as_before and facts.trouble is not None:
        message = f"its runtime runs on as it was declared before: {facts.trouble.message}"
        found.append((RUNS_AS_BEFORE, True, facts.trouble.reason, message))
    if _wants_writes(dataset):
        message = "writes were asked for by accessModes, and mounts are read-only"
        found.append((READ_ONLY, True, "ReadOnly", message))
    return found


def why_deletion_waits(facts: DatasetFacts) -> tuple[str, str] | None:
    """What the deletion of a Dataset waits for, as a reason and a message; None for nothing."""
    if facts.users:
        message = "deletion waits until it is no longer used by " + ", ".join(facts.users)
        return "DatasetInUse", message
    if facts.not_ended:
        message = f"deletion waits until its runtime ends, which is tried again: {facts.not_ended}"
        return "RuntimeNotEnded", message
    return None


def _ready(facts: DatasetFacts, phase: DatasetPhase) -> tuple[str, bool, str, str]:
    ready = sum(share.ready for share in facts.shares)
    if (
        phase in ("Bound", "Updating", "DataMigrating")
        and ready
        and facts.served_generation is not None
    ):
        message = f"the Dataset can be read; {ready} of {len(facts.shares)} workers serve it"
        if facts.trouble is not None and phase == "Bound" and not facts.runs_as_before:
            message += f"; not all of them as it is declared now: {facts.trouble.message}"
        return "Ready", True, "DatasetReady", message
    if facts.trouble is not None:
        return "Ready", False, facts.trouble.reason, facts.trouble.message
    if facts.runtime is None:
        message = "no runtime has the Dataset's name and namespace"
        return "Ready", False, "RuntimeNotFound", message
    if phase == "Failed":
        return "Ready", False, "DatasetFailed", "no worker has answered for a while"
    return "Ready", False, "DatasetNotReady", "no worker serves it yet"


def _wants_writes(dataset: Dataset) -> bool:
    return any(mode.startswith("ReadWrite") for mode in dataset.spec.access_modes)
