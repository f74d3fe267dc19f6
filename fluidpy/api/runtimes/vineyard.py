"""VineyardRuntime: objects in shared memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.dataset import EncryptOption
from fluidpy.api.model import (
    AtLeastOne,
    Count,
    Int32,
    Model,
    Options,
    ResourceRequirements,
    Volume,
    VolumeMount,
    defaulted,
    mapping,
    optional,
    sequence,
)
from fluidpy.api.operations import PodMetadata
from fluidpy.api.runtimes.components import (
    CleanPolicy,
    EngineRuntime,
    EnvMap,
    Networked,
    PodNeeds,
    RuntimePodMetadata,
    VersionSpec,
)
from fluidpy.api.runtimes.tiered_store import TieredStore


class VineyardComponent(VersionSpec, PodNeeds, Networked):
    """A component of Vineyard: its workers, and what masters have too."""

    replicas: AtLeastOne | None = optional("Number of replicas.")
    ports: dict[str, Int32] = mapping("Ports by name.")
    env: EnvMap = mapping("Environment.")
    options: Options = mapping("Options of the component.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")


class ExternalEndpoint(Model):
    """An etcd that is there already."""

    uri: str | None = optional("URL of the etcd.", min_length=1)
    encrypt_options: list[EncryptOption] = sequence("Settings whose values lie in Secrets.")
    options: Options = mapping("Settings in clear text.")


class VineyardMaster(VineyardComponent):
    """The etcd of Vineyard."""

    endpoint: ExternalEndpoint | None = optional("An etcd that is there already.")


class VineyardClientSocket(VersionSpec, Networked):
    """What gives pods the socket of the local worker; no FUSE."""

    env: EnvMap = mapping("Environment.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    resources: ResourceRequirements | None = optional("Requests and limits.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")
    options: Options = mapping("Options of the client, such as size.")


class VineyardRuntimeSpec(RuntimePodMetadata):
    """What the user wants of the Vineyard engine."""

    master: VineyardMaster | None = optional("The etcd.")
    worker: VineyardComponent | None = optional("The workers.")
    fuse: VineyardClientSocket | None = optional("The client socket.")
    tieredstore: TieredStore | None = optional("Levels of a worker; 4Gi of memory if left out.")
    replicas: Count | None = optional("Number of workers; wins over worker.replicas.")
    disable_prometheus: bool = defaulted(False, "Whether metrics are left out.")
    volumes: list[Volume] = sequence("Volumes that components may mount.")


class VineyardRuntime(EngineRuntime):
    """The Vineyard engine for the Dataset of the same name."""

    kind: Literal["VineyardRuntime"] = "VineyardRuntime"
    spec: VineyardRuntimeSpec = Field(
        default_factory=VineyardRuntimeSpec, description="What is wanted."
    )
