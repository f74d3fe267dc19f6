"""Conditions and phases: how an object says what state it is in, and since when."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fluidpy.api.model import Int64, Model, Timestamp, defaulted, optional

ConditionStatus: TypeAlias = Literal["True", "False", "Unknown"]
RuntimePhase: TypeAlias = Literal["", "NotReady", "PartialReady", "Ready"]
DatasetPhase: TypeAlias = Literal[
    "", "Pending", "Bound", "Failed", "NotBound", "Updating", "DataMigrating"
]
OperationPhase: TypeAlias = Literal["", "Pending", "Executing", "Complete", "Failed"]

DatasetConditionType: TypeAlias = Literal[
    "RuntimeScheduled", "Ready", "NotReady", "UpdateReady", "Updating", "Initialized"
]
RuntimeConditionType: TypeAlias = Literal[
    "MasterInitialized",
    "MasterReady",
    "WorkersInitialized",
    "WorkersReady",
    "WorkersScaledIn",
    "WorkersScaledOut",
    "FusesInitialized",
    "FusesReady",
    "FusesScaledIn",
    "FusesScaledOut",
]


class _Condition(Model):
    """What all conditions have."""

    status: ConditionStatus = defaulted("Unknown", "Whether the condition holds.")
    reason: str | None = optional("Why, as one CamelCase word.")
    message: str | None = optional("Why, for people.")
    last_transition_time: Timestamp | None = optional("When the status last changed.")
    observed_generation: Int64 | None = optional("Generation of the spec that it speaks of.")


class DatasetCondition(_Condition):
    """A condition of a Dataset.

    `type` is open beyond `DatasetConditionType`: fluidpy adds conditions of its own.
    """

    type: str = defaulted("", "Which condition, such as `Ready`.")
    last_update_time: Timestamp | None = optional("When it was last looked at.")


class RuntimeCondition(_Condition):
    """A condition of a runtime; `type` is open beyond `RuntimeConditionType`."""

    type: str = defaulted("", "Which condition, such as `WorkersReady`.")
    last_probe_time: Timestamp | None = optional("When it was last looked at.")


class OperationCondition(_Condition):
    """A condition of a data operation; `type` is open beyond Fluid's `Complete` and `Failed`."""

    type: str = defaulted("", "Which condition, such as `Complete` or `Failed`.")
    last_probe_time: Timestamp | None = optional("When it was last looked at.")
