"""ThinRuntime and ThinRuntimeProfile: any FUSE client in an image."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.dataset import User
from fluidpy.api.metadata import FluidResource
from fluidpy.api.model import (
    AtLeastOne,
    ContainerPort,
    Count,
    EnvVars,
    Lifecycle,
    LocalObjectReference,
    Model,
    Options,
    Probe,
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
    Networked,
    PodNeeds,
    RuntimeManagement,
    VersionSpec,
)
from fluidpy.api.runtimes.tiered_store import TieredStore


class ThinContainer(VersionSpec, PodNeeds, Networked):
    """What worker and client of a thin runtime share."""

    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")
    env: EnvVars = sequence("Environment.")
    ports: list[ContainerPort] = sequence("Ports of the container.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")
    liveness_probe: Probe | None = optional("How to see that it lives.")
    readiness_probe: Probe | None = optional("How to see that it is ready.")


class ThinWorker(ThinContainer):
    """The cache worker of a thin runtime."""

    replicas: AtLeastOne | None = optional("Number of workers.")
    enabled: bool = defaulted(False, "Whether there are workers.")


class ThinFuse(ThinContainer):
    """The FUSE client of a thin runtime."""

    command: list[str] = sequence("Program of the container.")
    args: list[str] = sequence("Arguments of the program.")
    options: Options = mapping("Mount options.")
    clean_policy: CleanPolicy = defaulted("", "When the client ends.")
    lifecycle: Lifecycle | None = optional("What to do before the client stops (preStop only).")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")


class ThinRuntimeSpec(Model):
    """What the user wants of a thin runtime; its fields win over the profile's."""

    profile_name: str = defaulted(
        "", "The ThinRuntimeProfile; empty for a Dataset that refers to another."
    )
    worker: ThinWorker | None = optional("The workers.")
    fuse: ThinFuse | None = optional("The FUSE client.")
    tieredstore: TieredStore | None = optional("Only the path of the first level is used.")
    replicas: Count | None = optional("Number of workers.")
    run_as: User | None = optional("User that the engine runs as.")
    disable_prometheus: bool = defaulted(False, "Whether metrics are left out.")
    volumes: list[Volume] = sequence("Volumes that worker and client may mount.")
    management: RuntimeManagement | None = optional("How the runtime is looked after.")
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class ThinRuntime(EngineRuntime):
    """A FUSE client in an image for the Dataset of the same name."""

    kind: Literal["ThinRuntime"] = "ThinRuntime"
    spec: ThinRuntimeSpec = Field(default_factory=ThinRuntimeSpec, description="What is wanted.")


class ThinRuntimeProfileSpec(Model):
    """A FUSE client that thin runtimes are made from."""

    file_system_type: str = Field(
        description="Type of the mount as the kernel names it, such as fuse.ossfs.", min_length=1
    )
    worker: ThinWorker | None = optional("Defaults for the workers.")
    fuse: ThinFuse | None = optional("Defaults for the FUSE client.")
    volumes: list[Volume] = sequence("Volumes that worker and client may mount.")
    node_publish_secret_policy: Literal[
        "NotMountNodePublishSecret",
        "MountNodePublishSecretIfExists",
        "CopyNodePublishSecretAndMountIfNotExists",
    ] = defaulted(
        "MountNodePublishSecretIfExists", "What to do with the Secret of a pvc:// source."
    )
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class ThinRuntimeProfileStatus(Model):
    """Empty in Fluid."""


class ThinRuntimeProfile(FluidResource):
    """A FUSE client in an image, for the whole cluster."""

    kind: Literal["ThinRuntimeProfile"] = "ThinRuntimeProfile"
    spec: ThinRuntimeProfileSpec = Field(description="What is wanted.")
    status: ThinRuntimeProfileStatus = Field(
        default_factory=ThinRuntimeProfileStatus, description="Empty."
    )
