"""What the objects ask for: which Datasets are served, by how many workers, with what definition.

Pure, but for the environment and the secret files that `resolve_dataset` looks into.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fluidpy.api.dataset import Dataset, RuntimeReference
from fluidpy.api.kinds import KINDS
from fluidpy.api.metadata import Resource
from fluidpy.api.problem import LoadedObject
from fluidpy.client.control_client import BASE_DIRECTORY_ANNOTATION
from fluidpy.control.dataset_status import Trouble
from fluidpy.control.object_lifecycle import Document
from fluidpy.control.pool_plan import Demand
from fluidpy.control.runtime_status import NATIVE_CLASS, wanted_workers
from fluidpy.errors import FluidpyError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.namespace.resolve import resolve_dataset
from fluidpy.settings import Settings

RUNTIME_KINDS: Final = tuple(kind for kind in KINDS if kind.endswith("Runtime"))
"""Every kind of runtime; all are served by fluidpy's own engine here."""

RUNTIME_PLURALS: Final = tuple(KINDS[kind].plural for kind in RUNTIME_KINDS)

DRAIN_ANNOTATION: Final = "fluidpy.io/drain"
"""On a runtime: names of workers, joined by commas, that are to leave first."""

DEFAULT_LABEL: Final = "fluidpy.io/default-runtime"
"""On a runtime that was made for a Dataset which had none; it gives way to any other."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One Dataset as it is to be served, or why it cannot be."""

    dataset: LoadedObject
    runtime: LoadedObject | None
    demand: Demand
    definition: DatasetDefinition | None = None
    trouble: Trouble | None = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.demand.key

    @property
    def deleting(self) -> bool:
        """Whether somebody asked for its deletion."""
        return self.dataset.object.metadata.deletion_timestamp is not None


def runtimes_of(objects: Sequence[LoadedObject], dataset: Resource) -> list[LoadedObject]:
    """The runtimes of a Dataset's name and namespace, those made by default last."""
    found = [
        one
        for one in objects
        if one.object.kind in RUNTIME_KINDS
        and (one.object.namespace, one.object.name) == (dataset.namespace, dataset.name)
    ]
    return sorted(found, key=lambda one: is_default(one.object))


def is_default(runtime: Resource) -> bool:
    """Whether a runtime was made for a Dataset that had none."""
    return DEFAULT_LABEL in runtime.metadata.labels


def default_runtime(dataset: Resource) -> Document:
    """The runtime that a Dataset without one gets: fluidpy's own, one worker, the default tier."""
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "CacheRuntime",
        "metadata": {
            "name": dataset.name,
            "namespace": dataset.namespace,
            "labels": {DEFAULT_LABEL: "true"},
            "ownerReferences": [
                {
                    "apiVersion": dataset.api_version,
                    "kind": dataset.kind,
                    "name": dataset.name,
                    "uid": dataset.metadata.uid or "",
                }
            ],
        },
        "spec": {"runtimeClassName": NATIVE_CLASS, "worker": {"replicas": 1}},
    }


def wanted_datasets(objects: Sequence[LoadedObject], settings: Settings) -> list[Wanted]:
    """All Datasets with what they want; each on its own, so that a wrong one harms no other."""
    return [_wanted(one, objects, settings) for one in objects if isinstance(one.object, Dataset)]


def _wanted(one: LoadedObject, objects: Sequence[LoadedObject], settings: Settings) -> Wanted:
    dataset = one.object
    key = f"{dataset.namespace}/{dataset.name}"
    found = runtimes_of(objects, dataset)
    runtime = found[0] if found else None
    if runtime is None:
        return Wanted(one, None, Demand(key, 0))
    workers = max(0, wanted_workers(runtime.object))
    demand = Demand(key, workers, _copies(runtime.object), drained(runtime.object))
    near = _related(one, runtime, objects)
    try:
        resolved = resolve_dataset(
            near,
            dataset=dataset.name,
            namespace=dataset.namespace,
            settings=settings,
            environ=os.environ,
            base_directory=Path(
                dataset.metadata.annotations.get(BASE_DIRECTORY_ANNOTATION, os.sep)
            ),
        )
    except FluidpyError as error:
        return Wanted(one, runtime, demand, trouble=Trouble("DatasetInvalid", str(error)))
    return Wanted(one, runtime, demand, resolved.definition)


def _related(
    one: LoadedObject, runtime: LoadedObject, objects: Sequence[LoadedObject]
) -> list[LoadedObject]:
    """What a Dataset may refer to, with its one runtime: of other runtimes those of others."""
    own = (one.object.namespace, one.object.name)
    return [
        other
        for other in objects
        if other.object.kind not in RUNTIME_KINDS
        or other is runtime
        or (other.object.namespace, other.object.name) != own
    ]


def _copies(runtime: Resource) -> int:
    """Alluxio's `spec.data.replicas`: copies of each block; one where nothing is said."""
    data = getattr(getattr(runtime, "spec", None), "data", None)
    return max(1, getattr(data, "replicas", None) or 1)


def drained(runtime: Resource) -> frozenset[str]:
    """The workers that are to leave first."""
    names = runtime.metadata.annotations.get(DRAIN_ANNOTATION, "")
    return frozenset(name for name in names.split(",") if name)


def scaled(runtime: Document, replicas: int, drain: Sequence[str]) -> Document:
    """The runtime with another number of workers, of which `drain` are to leave first."""
    spec = dict(runtime.get("spec", {}))
    if runtime["kind"] == "CacheRuntime":
        spec["worker"] = {**spec.get("worker", {}), "replicas": replicas}
    else:
        spec["replicas"] = replicas
    metadata = dict(runtime["metadata"])
    notes = {k: v for k, v in metadata.get("annotations", {}).items() if k != DRAIN_ANNOTATION}
    if drain:
        notes[DRAIN_ANNOTATION] = ",".join(drain)
    metadata["annotations"] = notes
    return {**runtime, "metadata": metadata, "spec": spec}


def runtime_reference(runtime: Resource) -> RuntimeReference:
    """What a Dataset's status says of its runtime; the type is the kind's first word, as Fluid."""
    values: dict[str, Any] = {
        "name": runtime.name,
        "namespace": runtime.namespace,
        "category": "Accelerate",
        "type": runtime.kind.removesuffix("Runtime").lower(),
    }
    return RuntimeReference(**values)
