"""What a schema cannot say: checks over several fields and over all objects of the files."""

from __future__ import annotations

from collections.abc import Sequence

from fluidpy.api.checks.datasets import check_dataset
from fluidpy.api.checks.findings import Findings, SecretKnown, Surroundings, index_objects
from fluidpy.api.checks.names import check_names, check_unique
from fluidpy.api.checks.operations import Operation, check_operation
from fluidpy.api.checks.runtimes import check_runtime
from fluidpy.api.dataset import Dataset
from fluidpy.api.problem import LoadedObject
from fluidpy.api.secret import CoreResource

__all__ = ["Findings", "SecretKnown", "check_objects"]


def check_objects(
    objects: Sequence[LoadedObject],
    *,
    among: Sequence[LoadedObject] = (),
    secret_known: SecretKnown | None = None,
) -> Findings:
    """Problems and warnings of objects that fit their kinds; a function of its arguments alone.

    They may refer to the objects in `among`, which are taken for checked.

    With `secret_known`, a Secret key that an object asks for must be among the objects or be known
    to it; without, Secrets may be missing.
    """
    findings = Findings()
    around = Surroundings(index_objects([*among, *objects]), secret_known)
    check_unique(objects, findings)
    for one in objects:
        check_names(one, findings)
        if isinstance(one.object, Dataset):
            check_dataset(one, around, findings)
        elif isinstance(one.object, Operation):
            check_operation(one, around, findings)
        elif not isinstance(one.object, CoreResource):
            check_runtime(one, findings)
    return findings
