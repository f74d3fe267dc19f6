"""How a data operation ends: its last condition, how long it took, when its object goes. Pure."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from fluidpy.api.conditions import OperationCondition
from fluidpy.api.operations import DataLoad, DataMigrate, OperationStatus
from fluidpy.control.conditions import find, set_condition
from fluidpy.control.moments import duration, seconds_of, timestamp

Carried: TypeAlias = DataLoad | DataMigrate
"""The operations that are carried out."""

UNFINISHED: Final = "Unfinished"
"""Fluid's `duration` of an operation under way."""

ENDED: Final = ("Complete", "Failed")
"""The phases after which nothing follows."""


def ended_status(
    operation: Carried,
    status: OperationStatus,
    phase: Literal["Complete", "Failed"],
    reason: str,
    message: str,
    now: float,
) -> OperationStatus:
    """The status of an operation that has just ended; `now` in epoch seconds."""
    created = operation.metadata.creation_timestamp
    took = now - seconds_of(created) if created else 0.0
    condition = OperationCondition(
        type=phase,
        status="True",
        reason=reason,
        message=message,
        last_probe_time=timestamp(now),
        last_transition_time=timestamp(now),
        observed_generation=operation.metadata.generation,
    )
    reached = status.progress
    if reached is not None:
        reached = reached.model_copy(update={"eta_seconds": None, "bytes_per_second": 0})
    return status.model_copy(
        update={
            "phase": phase,
            "duration": duration(took),
            "progress": reached,
            "waiting_for": None,
            "observed_generation": operation.metadata.generation,
            # Fluid's readers take the first condition for the end.
            "conditions": set_condition([], condition),
        }
    )


def seconds_left(operation: Carried, status: OperationStatus, now: float) -> float | None:
    """Until the object of an operation that has ended is to be deleted; None for never."""
    ttl = operation.spec.ttl_seconds_after_finished
    if ttl is None:
        return None
    condition = find(status.conditions, status.phase)
    if condition is None or condition.last_transition_time is None:
        return None
    return seconds_of(condition.last_transition_time) + ttl - now
