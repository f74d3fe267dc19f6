"""What the control plane refuses although it is well-formed, since it would never happen. Pure."""

from __future__ import annotations

from typing import Final

from fluidpy.api.operations import DataLoad, DataMigrate
from fluidpy.api.problem import LoadedObject, Problem

_NOT_YET: Final = ("DataBackup", "DataProcess")


def refuse(one: LoadedObject) -> list[Problem]:
    """The problems of an object that asks for what is not carried out here yet; else none."""
    if one.object.kind in _NOT_YET:
        message = f"{one.object.kind} is not carried out by fluidpy's own control plane yet"
        return [
            one.problem(
                ("kind",), message, "leave it out; DataLoad and DataMigrate are what there is"
            )
        ]
    found = _of_migrate(one, one.object) if isinstance(one.object, DataMigrate) else []
    if isinstance(one.object, DataLoad | DataMigrate) and one.object.spec.policy != "Once":
        policy = one.object.spec.policy
        message = f"{policy} is not carried out by fluidpy's own control plane yet"
        cure = f"write Once, and apply the {one.object.kind} again when it is to run again"
        found.append(one.problem(("spec", "policy"), message, cure))
    return found


def _of_migrate(one: LoadedObject, migrate: DataMigrate) -> list[Problem]:
    found = []
    if migrate.spec.runtime_type not in (None, "", "juicefs"):
        message = f"{migrate.spec.runtime_type} carries out no DataMigrate"
        cure = "write juicefs, or leave it out; a JuiceFSRuntime has to serve the Dataset"
        found.append(one.problem(("spec", "runtimeType"), message, cure))
    if migrate.spec.parallelism > 1:
        message = "one process copies here, on one machine"
        cure = "leave it out; the option threads says how many objects are copied at once"
        found.append(one.problem(("spec", "parallelism"), message, cure))
    return found
