"""What the objects ask for: which Datasets are served, by how many workers, with what definition.

Pure, but for the environment and the secret files that `resolve_dataset` looks into.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fluidpy.api.dataset import Dataset, RuntimeReference
from fluidpy.api.kinds import KINDS
from fluidpy.api.metadata import Resource
from fluidpy.api.problem import LoadedObject
from fluidpy.api.secret import CoreResource
from fluidpy.client.control_client import BASE_DIRECTORY_ANNOTATION
from fluidpy.control.dataset_status import Trouble
from fluidpy.control.object_lifecycle import Document
from fluidpy.control.pool_plan import Demand
from fluidpy.control.runtime_choice import Choice, RuntimeChooser, assigned
from fluidpy.control.runtime_keeper import Assignment, place_of
from fluidpy.control.runtime_requests import as_read, profile_of, secrets_of
from fluidpy.control.runtime_status import NATIVE_CLASS, wanted_workers
from fluidpy.errors import FluidpyError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.namespace.resolve import resolve_dataset
from fluidpy.namespace.resolve_mounts import REFERENCE
from fluidpy.runtime.driver import EngineDriver, RuntimeRequest
from fluidpy.settings import Settings

RUNTIME_KINDS: Final = tuple(kind for kind in KINDS if kind.endswith("Runtime"))
"""Every kind of runtime."""

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
    assignment: Assignment | None = None
    """What has to run beside the workers, which read what it mounts."""
    choice: Choice | None = None
    """Who serves it."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.demand.key

    @property
    def deleting(self) -> bool:
        """Whether somebody asked for its deletion."""
        return self.dataset.object.metadata.deletion_timestamp is not None


def trouble_of(wanted: Mapping[str, Wanted], key: str) -> Trouble | None:
    """Why what is declared for a Dataset cannot be resolved just now. Pure."""
    return wanted[key].trouble if key in wanted else None


def runtimes_by_name(objects: Sequence[LoadedObject]) -> dict[str, list[LoadedObject]]:
    """The runtimes by `namespace/name`, which is their Dataset's; those made by default last."""
    found: dict[str, list[LoadedObject]] = {}
    for one in objects:
        if one.object.kind in RUNTIME_KINDS:
            found.setdefault(f"{one.object.namespace}/{one.object.name}", []).append(one)
    for several in found.values():
        several.sort(key=lambda one: is_default(one.object))
    return found


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


class WantedDatasets:
    """All Datasets with what they want; what a Dataset says is resolved again only if it changed.

    Each is resolved on its own, so that a wrong one harms no other.
    """

    def __init__(self, settings: Settings) -> None:
        """Has resolved nothing yet."""
        self._settings = settings
        self._known: dict[str, tuple[object, Wanted]] = {}

    def of(self, objects: Sequence[LoadedObject]) -> list[Wanted]:
        """The Datasets among the objects."""
        runtimes = runtimes_by_name(objects)
        chooser = RuntimeChooser(self._settings)
        shared = tuple(_mark(one) for one in objects if isinstance(one.object, CoreResource))
        everything = tuple(map(_mark, objects))
        known, self._known = self._known, {}
        seen = list(objects)
        for index, one in sorted(enumerate(objects), key=lambda item: _is_reference(item[1])):
            if not isinstance(one.object, Dataset):
                continue
            key = f"{one.object.namespace}/{one.object.name}"
            runtime = next(iter(runtimes.get(key, ())), None)
            around = everything if _refers(one) else shared
            profile = None if runtime is None else profile_of(runtime, objects)
            marks = (_mark(one), *(other and _mark(other) for other in (runtime, profile)), around)
            before = known.get(key)
            if before is not None and before[0] == marks and before[1].trouble is None:
                fresh = replace(before[1], dataset=one, runtime=runtime)
            else:
                fresh = _wanted(one, runtime, seen, self._settings, chooser)
            self._known[key] = marks, fresh
            if fresh.assignment is not None and fresh.definition is not None:
                seen[index] = as_read(one, fresh.definition)
        return [wanted for _, wanted in self._known.values()]


def _mark(one: LoadedObject) -> object:
    """Changes with what an object declares, and not with its status."""
    metadata = one.object.metadata
    return metadata.uid, metadata.generation, tuple(sorted(metadata.annotations.items()))


def _wanted(
    one: LoadedObject,
    runtime: LoadedObject | None,
    objects: Sequence[LoadedObject],
    settings: Settings,
    chooser: RuntimeChooser,
) -> Wanted:
    dataset = one.object
    assert isinstance(dataset, Dataset)
    key = f"{dataset.namespace}/{dataset.name}"
    if runtime is None:
        return Wanted(one, None, Demand(key, 0))
    workers = max(0, wanted_workers(runtime.object))
    demand = Demand(key, workers, _copies(runtime.object), drained(runtime.object))
    near = _related(one, runtime, objects)
    named = profile_of(runtime, objects)
    profile = None if named is None else named.object
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
            foreign=chooser.is_mounted(runtime.object, profile),
        )
        choice = chooser.choose(runtime.object, profile, _schemes(resolved.definition))
        request = RuntimeRequest(
            dataset=dataset,
            mounts=resolved.definition.mounts,
            place=place_of(settings.runtime_dir, settings.state_dir, key),
            runtime=runtime.object,
            profile=profile,
            secrets=secrets_of(dataset, runtime.object, profile, near, settings),
            tiers=resolved.definition.tiers,
        )
        assignment, definition = assigned(choice, request, resolved.definition, settings.state_dir)
    except FluidpyError as error:
        missing = chooser.missing(runtime.object, profile)
        why = f"{error}. {missing[:1].upper()}{missing[1:]}" if missing else str(error)
        return Wanted(one, runtime, demand, trouble=Trouble("DatasetInvalid", why))
    if isinstance(choice.driver, EngineDriver):
        demand = replace(demand, workers=min(workers, 1), copies=1)
    return Wanted(one, runtime, demand, definition, assignment=assignment, choice=choice)


def _schemes(definition: DatasetDefinition) -> list[str]:
    return [mount.source.scheme for mount in definition.mounts]


def _related(
    one: LoadedObject, runtime: LoadedObject, objects: Sequence[LoadedObject]
) -> list[LoadedObject]:
    """What a Dataset may refer to, with its one runtime: other Datasets only if it names some."""
    own = (one.object.namespace, one.object.name)
    return [
        one,
        runtime,
        *(
            other
            for other in objects
            if isinstance(other.object, CoreResource)
            or (_refers(one) and (other.object.namespace, other.object.name) != own)
        ),
    ]


def _is_reference(one: LoadedObject) -> bool:
    return isinstance(one.object, Dataset) and _refers(one)


def _refers(one: LoadedObject) -> bool:
    assert isinstance(one.object, Dataset)
    return any(mount.mount_point.startswith(REFERENCE) for mount in one.object.spec.mounts)


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
