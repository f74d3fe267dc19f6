"""EFCRuntime: the elastic file client for NAS and CPFS."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.model import (
    Count,
    Int32,
    Model,
    NetworkMode,
    Options,
    ResourceRequirements,
    StringMap,
    defaulted,
    mapping,
    optional,
)
from fluidpy.api.operations import PodMetadata
from fluidpy.api.runtimes.components import (
    CleanCachePolicy,
    CleanPolicy,
    EngineRuntime,
    Replicas,
    RuntimePodMetadata,
    VersionSpec,
)
from fluidpy.api.runtimes.tiered_store import TieredStore


class EFCComponent(RuntimePodMetadata):
    """A component of EFC: master or worker."""

    replicas: Replicas | None = optional("Number of replicas.")
    version: VersionSpec | None = optional("Image of the component.")
    properties: Options = mapping("Properties of the component.")
    ports: dict[str, Int32] = mapping("Ports by name.")
    resources: ResourceRequirements | None = optional("Requests and limits.")
    disabled: bool = defaulted(False, "Whether the component is left out.")
    node_selector: StringMap = mapping("Labels that the nodes must have.")
    network_mode: NetworkMode = defaulted("", "HostNetwork, the default, or ContainerNetwork.")


class EFCInitFuse(Model):
    """The image that prepares a node for the client."""

    version: VersionSpec | None = optional("Image.")


class EFCFuse(Model):
    """The FUSE client of EFC."""

    version: VersionSpec | None = optional("Image of the client.")
    properties: Options = mapping("Properties of the client.")
    resources: ResourceRequirements | None = optional("Requests and limits.")
    node_selector: StringMap = mapping("Labels that the nodes must have.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    network_mode: NetworkMode = defaulted("", "HostNetwork, the default, or ContainerNetwork.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")


class OSAdvise(Model):
    """Hints on the nodes' operating system."""

    os_version: str | None = optional("Version of the operating system.")
    enabled: bool | None = optional("Whether the hint counts.")


class EFCRuntimeSpec(RuntimePodMetadata):
    """What the user wants of the EFC engine."""

    master: EFCComponent | None = optional("The masters.")
    worker: EFCComponent | None = optional("The workers.")
    init_fuse: EFCInitFuse | None = optional("The image that prepares a node.")
    fuse: EFCFuse | None = optional("The FUSE client.")
    tieredstore: TieredStore | None = optional("Cache levels of a worker.")
    replicas: Count | None = optional("Number of workers.")
    os_advise: OSAdvise | None = optional("Hints on the operating system.")
    clean_cache_policy: CleanCachePolicy | None = optional("Cleaning when the runtime goes.")


class EFCRuntime(EngineRuntime):
    """The EFC engine for the Dataset of the same name."""

    kind: Literal["EFCRuntime"] = "EFCRuntime"
    spec: EFCRuntimeSpec = Field(default_factory=EFCRuntimeSpec, description="What is wanted.")
