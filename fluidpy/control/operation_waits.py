"""What an operation waits for before it begins: the one it runs after, its Datasets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fluidpy.api.conditions import OperationPhase
from fluidpy.api.dataset import Dataset
from fluidpy.control.operation_ends import Carried

READABLE: Final = ("Bound", "Updating", "DataMigrating")
"""Phases of a Dataset in which it is served."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an operation does not begin yet: the event's reason and message.

    `for_operation`: another operation has to end first (Fluid's `waitingFor.operationComplete`).
    """

    reason: str
    message: str
    for_operation: bool = False


def for_predecessor(operation: Carried, predecessor: OperationPhase | None) -> Waiting | None:
    """What `runAfter` has it wait for; `predecessor` is None when that is not there."""
    after = operation.spec.run_after
    if after is None or predecessor == "Complete":
        return None
    state = {None: "is not there", "Failed": "failed"}.get(predecessor, "is not Complete yet")
    message = f"waits for {after.kind} {after.name}, which {state}"
    return Waiting("DataOperationWaiting", message, for_operation=True)


def for_dataset(name: str, dataset: Dataset | None) -> Waiting | None:
    """What a Dataset has it wait for, until it is served."""
    if dataset is None or dataset.metadata.deletion_timestamp is not None:
        return Waiting("TargetDatasetNotFound", f"waits for the Dataset {name}: it is not there")
    if dataset.status.phase not in READABLE:
        phase = dataset.status.phase or "new"
        return Waiting("TargetDatasetNotReady", f"waits for the Dataset {name}, which is {phase}")
    return None
