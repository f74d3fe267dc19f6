"""JuiceFSRuntime: the JuiceFS engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.dataset import User
from fluidpy.api.model import (
    AtLeastOne,
    ContainerPort,
    EnvVars,
    Options,
    PersistentVolumeClaimTemplate,
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
    InitUsersSpec,
    Networked,
    PodNeeds,
    RuntimeManagement,
    RuntimePodMetadata,
    VersionSpec,
)


class JuiceFSComponent(RuntimePodMetadata, PodNeeds, Networked):
    """A component of JuiceFS: master, worker or job worker."""

    replicas: AtLeastOne | None = optional("Number of replicas.")
    ports: list[ContainerPort] = sequence("Ports of the container.")
    options: Options = mapping("Mount options of the component.")
    env: EnvVars = sequence("Environment.")
    enabled: bool = defaulted(False, "Whether the component exists; for those that are optional.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")


class JuiceFSFuse(VersionSpec, PodNeeds, Networked):
    """The FUSE client of JuiceFS."""

    env: EnvVars = sequence("Environment.")
    options: Options = mapping("Mount options of the client.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")


class JuiceFSRuntimeSpec(EngineSpec):
    """What the user wants of the JuiceFS engine."""

    juicefs_version: VersionSpec | None = optional("Image of the engine.")
    init_users: InitUsersSpec | None = optional("The image that makes users.")
    master: JuiceFSComponent | None = optional("The masters.")
    worker: JuiceFSComponent | None = optional("The workers.")
    job_worker: JuiceFSComponent | None = optional("The job workers.")
    fuse: JuiceFSFuse | None = optional("The FUSE client.")
    configs: list[str] = sequence("Arguments of juicefs format.", repr=False)
    run_as: User | None = optional("User that the engine runs as.")
    disable_prometheus: bool = defaulted(False, "Whether metrics are left out.")
    volumes: list[Volume] = sequence("Volumes that components may mount.")
    volume_claim_templates: list[PersistentVolumeClaimTemplate] = sequence(
        "Claims that are made for each worker."
    )
    management: RuntimeManagement | None = optional("How the runtime is looked after.")


class JuiceFSRuntime(EngineRuntime):
    """The JuiceFS engine for the Dataset of the same name."""

    kind: Literal["JuiceFSRuntime"] = "JuiceFSRuntime"
    spec: JuiceFSRuntimeSpec = Field(
        default_factory=JuiceFSRuntimeSpec, description="What is wanted."
    )
