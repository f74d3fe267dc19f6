"""JindoRuntime: the JindoCache engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.dataset import User
from fluidpy.api.model import (
    AtLeastOne,
    Int32,
    LocalObjectReference,
    Model,
    NetworkMode,
    Options,
    StringMap,
    Toleration,
    Volume,
    VolumeMount,
    defaulted,
    mapping,
    optional,
    sequence,
)
from fluidpy.api.operations import PodMetadata
from fluidpy.api.runtimes.components import (
    CleanCachePolicy,
    CleanPolicy,
    EngineRuntime,
    EngineSpec,
    EnvMap,
    PodNeeds,
    RuntimePodMetadata,
    VersionSpec,
)


class JindoComponent(RuntimePodMetadata, PodNeeds):
    """A component of JindoCache: master or worker."""

    replicas: AtLeastOne | None = optional("Number of replicas.")
    properties: Options = mapping("Properties of the component.")
    ports: dict[str, Int32] = mapping("Ports by name.")
    env: EnvMap = mapping("Environment.")
    tolerations: list[Toleration] = sequence("Taints that the pods tolerate.")
    labels: StringMap = mapping("Replaced by podMetadata.labels.")
    disabled: bool = defaulted(False, "Whether the component is left out.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class ClientMetrics(Model):
    """Whether and where metrics of the FUSE client are read."""

    enabled: bool = defaulted(False, "Whether the client has metrics.")
    scrape_target: str | None = optional(
        "Which clients are scraped: All, None, or MountPod and Sidecar joined by commas."
    )


class JindoFuse(VersionSpec, PodNeeds):
    """The FUSE client of JindoCache."""

    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")
    properties: Options = mapping("Properties of the client.")
    env: EnvMap = mapping("Environment.")
    args: list[str] = sequence("Arguments of the client.")
    tolerations: list[Toleration] = sequence("Taints that the pods tolerate.")
    labels: StringMap = mapping("Replaced by podMetadata.labels.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    disabled: bool = defaulted(False, "Whether the client is left out.")
    log_config: StringMap = mapping("Settings of the client's log.")
    metrics: ClientMetrics | None = optional("Metrics of the client.")


class JindoRuntimeSpec(EngineSpec):
    """What the user wants of the JindoCache engine."""

    jindo_version: VersionSpec | None = optional("Image of the engine.")
    master: JindoComponent | None = optional("The masters.")
    worker: JindoComponent | None = optional("The workers.")
    fuse: JindoFuse | None = optional("The FUSE client.")
    properties: Options = mapping("Properties of all components.")
    run_as: User | None = optional("User that the engine runs as.")
    user: str | None = optional("User name that the engine works under.")
    hadoop_config: str | None = optional("ConfigMap with hdfs-site.xml and core-site.xml.")
    labels: StringMap = mapping("Replaced by podMetadata.labels.")
    secret: str | None = optional("Secret with the credentials of the sources.")
    log_config: StringMap = mapping("Settings of the engine's log.")
    networkmode: NetworkMode = defaulted("", "HostNetwork, the default, or ContainerNetwork.")
    clean_cache_policy: CleanCachePolicy | None = optional("Cleaning when the runtime goes.")
    volumes: list[Volume] = sequence("Volumes that components may mount.")
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class JindoRuntime(EngineRuntime):
    """The JindoCache engine for the Dataset of the same name."""

    kind: Literal["JindoRuntime"] = "JindoRuntime"
    spec: JindoRuntimeSpec = Field(default_factory=JindoRuntimeSpec, description="What is wanted.")
