"""Conditions of Kubernetes' standard shape: set without losing since when a state holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fluidpy.api.conditions import (
    ConditionStatus,
    DatasetCondition,
    OperationCondition,
    RuntimeCondition,
)

AnyCondition = TypeVar("AnyCondition", DatasetCondition, RuntimeCondition, OperationCondition)

LONGEST_MESSAGE = 4096
"""Characters of a message that are kept; Kubernetes takes 32768 (metav1.Condition)."""


def set_condition(conditions: Sequence[AnyCondition], new: AnyCondition) -> list[AnyCondition]:
    """The conditions with `new` in place of the one of its type, or behind the others.

    `last_transition_time` is kept when the status is the same as before. If nothing but the times
    differs, the old condition stays as it is, so that an object does not change by being looked at.
    """
    new = new.model_copy(update={"message": _bounded(new.message)})
    found = False
    result: list[AnyCondition] = []
    for old in conditions:
        if old.type != new.type:
            result.append(old)
        elif not found:
            found = True
            result.append(_merged(old, new))
    return result if found else result + [new]  # noqa: RUF005 - keeps its type


def _merged(old: AnyCondition, new: AnyCondition) -> AnyCondition:
    if old.status != new.status:
        return new
    same = (old.reason, old.message, old.observed_generation) == (
        new.reason,
        new.message,
        new.observed_generation,
    )
    kept = old.last_transition_time or new.last_transition_time
    return old if same else new.model_copy(update={"last_transition_time": kept})


def _bounded(message: str | None) -> str | None:
    if message is None or len(message) <= LONGEST_MESSAGE:
        return message
    return message[: LONGEST_MESSAGE - 1] + "…"


def without(conditions: Sequence[AnyCondition], kind: str) -> list[AnyCondition]:
    """The conditions without those of a type."""
    return [condition for condition in conditions if condition.type != kind]


def find(conditions: Sequence[AnyCondition], kind: str) -> AnyCondition | None:
    """The condition of a type, if there is one."""
    return next((condition for condition in conditions if condition.type == kind), None)


def status_of(holds: bool) -> ConditionStatus:
    """`True` or `False` as conditions write it."""
    return "True" if holds else "False"
