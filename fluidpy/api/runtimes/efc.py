"""EFCRuntime: the elastic file client for NAS and CPFS."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.model import (
    AtLeastOne,
    Int32,
    Model,
    Options,
    defaulted,
    mapping,
    optional,
)
from fluidpy.api.operations import PodMetadata
from fluidpy.api.runtimes.components import (
    CleanCachePolicy,
    CleanPolicy,
    EngineRuntime,
    EngineSpec,
    Networked,
    PodNeeds,
    RuntimePodMetadata,
    VersionSpec,
)


class EFCComponent(RuntimePodMetadata, PodNeeds, Networked):
    """A component of EFC: master or worker."""

    replicas: AtLeastOne | None = optional("Number of replicas.")
    version: VersionSpec | None = optional("Image of the component.")
    properties: Options = mapping("Properties of the component.")
    ports: dict[str, Int32] = mapping("Ports by name.")
    disabled: bool = defaulted(False, "Whether the component is left out.")


class EFCInitFuse(Model):
    """The image that prepares a node for the client."""

    version: VersionSpec | None = optional("Image.")


class EFCFuse(PodNeeds, Networked):
    """The FUSE client of EFC."""

    version: VersionSpec | None = optional("Image of the client.")
    properties: Options = mapping("Properties of the client.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")


class OSAdvise(Model):
    """Hints on the nodes' operating system."""

    os_version: str | None = optional("Version of the operating system.")
    enabled: bool | None = optional("Whether the hint counts.")


class EFCRuntimeSpec(EngineSpec):
    """What the user wants of the EFC engine."""

    master: EFCComponent | None = optional("The masters.")
    worker: EFCComponent | None = optional("The workers.")
    init_fuse: EFCInitFuse | None = optional("The image that prepares a node.")
    fuse: EFCFuse | None = optional("The FUSE client.")
    os_advise: OSAdvise | None = optional("Hints on the operating system.")
    clean_cache_policy: CleanCachePolicy | None = optional("Cleaning when the runtime goes.")


class EFCRuntime(EngineRuntime):
    """The EFC engine for the Dataset of the same name."""

    kind: Literal["EFCRuntime"] = "EFCRuntime"
    spec: EFCRuntimeSpec = Field(default_factory=EFCRuntimeSpec, description="What is wanted.")
