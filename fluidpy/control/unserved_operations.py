"""What the control plane refuses although it is well-formed, since it would never happen. Pure."""

from __future__ import annotations

from typing import Final

from fluidpy.api.operations import DataLoad
from fluidpy.api.problem import LoadedObject, Problem

_NOT_YET: Final = ("DataMigrate", "DataBackup", "DataProcess")


def refuse(one: LoadedObject) -> list[Problem]:
    """The problems of an object that asks for what is not carried out here yet; else none."""
    if one.object.kind in _NOT_YET:
        message = f"{one.object.kind} is not carried out by fluidpy's own control plane yet"
        return [one.problem(("kind",), message, "leave it out; DataLoad is the operation there is")]
    if isinstance(one.object, DataLoad) and one.object.spec.policy != "Once":
        policy = one.object.spec.policy
        message = f"{policy} is not carried out by fluidpy's own control plane yet"
        cure = "write Once, and apply the DataLoad again when it is to run again"
        return [one.problem(("spec", "policy"), message, cure)]
    return []
