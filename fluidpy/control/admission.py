"""What the control plane refuses although it is well-formed, since it would never happen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluidpy.api.operations import DataLoad
from fluidpy.api.problem import LoadedObject, Problem

_NOT_YET: Final = ("DataMigrate", "DataBackup", "DataProcess")


def refusals(objects: Sequence[LoadedObject]) -> list[Problem]:
    """One problem for each object that asks for what is not carried out here yet."""
    return [problem for one in objects for problem in _of(one)]


def _of(one: LoadedObject) -> list[Problem]:
    if one.object.kind in _NOT_YET:
        message = f"{one.object.kind} is not carried out by fluidpy's own control plane yet"
        return [one.problem(("kind",), message, "leave it out; DataLoad is the operation there is")]
    if isinstance(one.object, DataLoad) and one.object.spec.policy != "Once":
        policy = one.object.spec.policy
        message = f"{policy} is not carried out by fluidpy's own control plane yet"
        cure = "write Once, and apply the DataLoad again when it is to run again"
        return [one.problem(("spec", "policy"), message, cure)]
    return []
