"""AlluxioRuntime: the Alluxio engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.dataset import User
from fluidpy.api.model import (
    AtLeastOne,
    Int32,
    LocalObjectReference,
    Model,
    Options,
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
    EngineSpec,
    EnvMap,
    InitUsersSpec,
    Networked,
    PodNeeds,
    RuntimeManagement,
    RuntimePodMetadata,
    VersionSpec,
)


class AlluxioComponent(RuntimePodMetadata, PodNeeds, Networked):
    """A component of Alluxio: master, worker, job master, job worker, gateway."""

    replicas: AtLeastOne | None = optional("Number of replicas.")
    enabled: bool = defaulted(False, "Whether the component exists; for those that are optional.")
    jvm_options: list[str] = sequence("Options of the JVM.")
    properties: Options = mapping("Alluxio properties of the component.")
    ports: dict[str, Int32] = mapping("Ports by name.")
    env: EnvMap = mapping("Environment.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class AlluxioFuse(VersionSpec, PodNeeds, Networked):
    """The FUSE client of Alluxio."""

    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")
    jvm_options: list[str] = sequence("Options of the JVM.")
    properties: Options = mapping("Alluxio properties of the client.")
    env: EnvMap = mapping("Environment.")
    args: list[str] = sequence("Arguments of the client.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")


class AlluxioData(Model):
    """How blocks are kept."""

    replicas: Int32 | None = optional("Copies of each block.")
    pin: bool | None = optional("Whether blocks are never evicted.")


class AlluxioRuntimeSpec(EngineSpec):
    """What the user wants of the Alluxio engine."""

    alluxio_version: VersionSpec | None = optional("Image of the engine.")
    master: AlluxioComponent | None = optional("The masters.")
    job_master: AlluxioComponent | None = optional("The job masters.")
    worker: AlluxioComponent | None = optional("The workers.")
    job_worker: AlluxioComponent | None = optional("The job workers.")
    api_gateway: AlluxioComponent | None = optional("The HTTP gateway.")
    init_users: InitUsersSpec | None = optional("The image that makes users.")
    fuse: AlluxioFuse | None = optional("The FUSE client.")
    properties: Options = mapping("Alluxio properties of all components.")
    jvm_options: list[str] = sequence("Options of all JVMs.")
    data: AlluxioData | None = optional("How blocks are kept.")
    run_as: User | None = optional("User that the engine runs as.")
    disable_prometheus: bool = defaulted(False, "Whether metrics are left out.")
    hadoop_config: str | None = optional("ConfigMap with hdfs-site.xml and core-site.xml.")
    volumes: list[Volume] = sequence("Volumes that components may mount.")
    management: RuntimeManagement | None = optional("How the runtime is looked after.")
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class AlluxioRuntime(EngineRuntime):
    """The Alluxio engine for the Dataset of the same name."""

    kind: Literal["AlluxioRuntime"] = "AlluxioRuntime"
    spec: AlluxioRuntimeSpec = Field(
        default_factory=AlluxioRuntimeSpec, description="What is wanted."
    )
