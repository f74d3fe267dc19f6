"""Objects and facts for the tests of this folder, short to write."""

from __future__ import annotations

from typing import Any, TypeVar

from fluidpy.api.dataset import Dataset, RuntimeReference
from fluidpy.api.document import load_valid_documents
from fluidpy.api.kinds import KINDS
from fluidpy.api.metadata import Resource
from fluidpy.api.operations import DataLoad
from fluidpy.api.problem import LoadedObject
from fluidpy.api.runtimes.cache import CacheRuntime
from fluidpy.api.texts import YamlText
from fluidpy.control.observed import SourceTotals, TierFacts, WorkerShare

NOW = 1_800_000_000.0
MIB = 1024 * 1024
RUNTIME = RuntimeReference(name="pets", namespace="default", category="Accelerate", type="cache")
AnyResource = TypeVar("AnyResource", bound=Resource)


def loaded_from_yaml(text: str) -> LoadedObject:
    (one,) = load_valid_documents(YamlText(text, "test.yaml")).objects
    return one


def from_yaml(text: str) -> Resource:
    return loaded_from_yaml(text).object


def loaded_dataset(name: str) -> LoadedObject:
    return loaded_from_yaml(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\n"
        f"metadata: {{name: {name}}}\nspec: {{mounts: [{{mountPoint: 's3://b', name: m}}]}}\n"
    )


def dataset(**changes: Any) -> Dataset:
    found = from_yaml(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\n"
        "metadata: {name: pets, generation: 3, creationTimestamp: '2027-01-15T07:00:00Z'}\n"
        "spec:\n  mounts:\n"
        "    - {mountPoint: 's3://bucket/pets', name: pets, options: {token: 'hush'}}\n"
    )
    assert isinstance(found, Dataset)
    return with_status(found, **changes)


def with_status(resource: AnyResource, **changes: Any) -> AnyResource:
    status = resource.status.model_copy(update=changes)  # type: ignore[attr-defined]
    return resource.model_copy(update={"status": status})


def cache_runtime(replicas: int = 2) -> CacheRuntime:
    found = from_yaml(
        "apiVersion: data.fluid.io/v1alpha1\nkind: CacheRuntime\nmetadata: {name: pets}\n"
        f"spec: {{runtimeClassName: fluidpy, worker: {{replicas: {replicas}}}}}\n"
    )
    assert isinstance(found, CacheRuntime)
    return found


def data_load(spec: str = "", name: str = "warm") -> DataLoad:
    found = from_yaml(
        "apiVersion: data.fluid.io/v1alpha1\nkind: DataLoad\n"
        f"metadata: {{name: {name}, generation: 1, creationTimestamp: '2027-01-15T07:58:30Z'}}\n"
        f"spec:\n  dataset: {{name: pets, namespace: default}}\n{spec}"
    )
    assert isinstance(found, DataLoad)
    return found


def share(
    member: str = "worker-0",
    *,
    cached: int = 0,
    quota: int = 1024 * MIB,
    totals: SourceTotals | None = None,
    ready: bool = True,
    **counters: int,
) -> WorkerShare:
    tier = TierFacts("/cache", quota, cached, 0.85, 0.95)
    return WorkerShare(member, ready, cached, (tier,), totals, counters)


def as_stored(resource: AnyResource) -> AnyResource:
    """The object as it comes back from where objects are kept: through its YAML form."""
    from fluidpy.api.serialisation import to_dict

    model = KINDS[resource.kind].model
    found = model.model_validate(to_dict(resource, reveal_secrets=True))
    assert isinstance(found, type(resource))
    return found
