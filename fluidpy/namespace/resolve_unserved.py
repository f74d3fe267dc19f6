"""What files declare beside a Dataset's sources that one machine does not do; pure.

Fluid's YAML is taken as it is, so a file may ask for engines, replicas and data operations. None of
it is refused; each is told in one line, so that nobody waits for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from fluidpy.api.dataset import Dataset
from fluidpy.api.kinds import KINDS
from fluidpy.api.model import Model
from fluidpy.api.operations import DataLoad
from fluidpy.api.problem import FieldPath, LoadedObject, Problem
from fluidpy.api.runtimes.cache import CacheRuntime

NATIVE_CLASS = "fluidpy"
"""The CacheRuntimeClass that stands for fluidpy's own worker."""

_RUNTIMES = tuple(kind for kind in KINDS if kind.endswith("Runtime"))
_OPERATIONS = ("DataMigrate", "DataBackup", "DataProcess")
_SERVED: Mapping[str, tuple[str, ...]] = {
    "Dataset": ("mounts", "owner", "shared_options", "shared_encrypt_options"),
    "Runtime": ("tieredstore", "replicas", "management", "runtime_class_name"),
    "worker": ("tiered_store", "replicas"),
}
_SAME_NAME = "give it the name and namespace of its Dataset"
_SAID_BY_VALIDATION = ("access_modes", "runtimes")
"""Fields of a Dataset that have warnings of their own."""


def unserved(objects: Sequence[LoadedObject], namespace: str, name: str) -> list[Problem]:
    """A warning for each thing among `objects` that mounting this Dataset leaves undone."""
    datasets = {
        (one.object.namespace, one.object.name)
        for one in objects
        if isinstance(one.object, Dataset)
    }
    found: list[Problem] = []
    for one in objects:
        place = (one.object.namespace, one.object.name)
        if one.object.kind in _RUNTIMES and place not in datasets:
            found.append(_about(one, "serves no Dataset of these files", _SAME_NAME))
        elif one.object.kind in _RUNTIMES and place == (namespace, name):
            found += _of_runtime(one)
        elif isinstance(one.object, Dataset) and place == (namespace, name):
            served = (*_SERVED["Dataset"], *_SAID_BY_VALIDATION)
            found += _without_effect(one, ("spec",), one.object.spec, served)
        elif isinstance(one.object, DataLoad):
            found.append(_about(one, "is not carried out here", _load(one.object)))
        elif one.object.kind in _OPERATIONS:
            found.append(_about(one, "is not carried out here"))
    return found


def _about(one: LoadedObject, message: str, cure: str = "") -> Problem:
    return one.problem(("kind",), f"the {one.object.kind} {one.object.name} {message}", cure)


def _of_runtime(one: LoadedObject) -> Iterator[Problem]:
    resource = one.object
    spec: Model = resource.spec  # type: ignore[attr-defined]  # every runtime has one
    native = isinstance(resource, CacheRuntime) and resource.spec.runtime_class_name == NATIVE_CLASS
    if not native:
        yield _about(
            one, "starts no engine here: fluidpy's own worker reads, and keeps to its cache levels"
        )
    yield from _replicas(one, ("spec",), spec)
    served = _SERVED["Runtime"]
    worker = getattr(spec, "worker", None)
    if isinstance(resource, CacheRuntime) and worker is not None:
        served = (*served, "worker")
        yield from _replicas(one, ("spec", "worker"), worker)
        yield from _without_effect(one, ("spec", "worker"), worker, _SERVED["worker"])
    yield from _without_effect(one, ("spec",), spec, served)


def _replicas(one: LoadedObject, at: FieldPath, model: Model) -> Iterator[Problem]:
    count = getattr(model, "replicas", None)
    if count is not None and count > 1:
        message = f"{count} workers are declared, and one serves this machine"
        yield one.problem((*at, "replicas"), message)


def _without_effect(
    one: LoadedObject, at: FieldPath, model: Model, served: Sequence[str]
) -> Iterator[Problem]:
    """One warning for all fields of a struct that were given and mean nothing here."""
    fields = type(model).model_fields
    given = [
        fields[name].alias or name
        for name in fields
        if name in model.model_fields_set and name not in served
    ]
    if given:
        verb = "has" if len(given) == 1 else "have"
        yield one.problem(at, f"{', '.join(given)} {verb} no effect here")


def _load(operation: DataLoad) -> str:
    """The command that does what a DataLoad asks for."""
    target = operation.spec.dataset
    words = ["run `fluidpy load", "-f FILE" if target is None else f"-f FILE {target.name}"]
    words += [f"--path {shlex.quote(one.path)}" for one in operation.spec.target]
    words += ["--metadata"] if operation.spec.load_metadata and not operation.spec.target else []
    return f"{' '.join(words)}`"
