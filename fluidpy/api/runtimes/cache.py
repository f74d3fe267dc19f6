"""CacheRuntime and CacheRuntimeClass: engines described by data instead of code."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fluidpy.api.metadata import FluidResource
from fluidpy.api.model import (
    Count,
    EnvVars,
    Int32,
    LocalObjectReference,
    Model,
    Options,
    PodTemplateSpec,
    StringMap,
    Toleration,
    Volume,
    VolumeMount,
    defaulted,
    mapping,
    optional,
    sequence,
)
from fluidpy.api.operations import OperationKind
from fluidpy.api.runtimes.components import PodNeeds, RuntimePodMetadata, VersionSpec
from fluidpy.api.runtimes.status import CacheRuntimeStatus
from fluidpy.api.runtimes.tiered_store import RuntimeTieredStore


class CacheComponent(RuntimePodMetadata, PodNeeds):
    """What master, worker and client share."""

    disabled: bool = defaulted(False, "Whether the component is left out.")
    runtime_version: VersionSpec | None = optional("Image instead of the class's.")
    options: Options = mapping("Options of the component; win over the runtime's.")
    args: list[str] = sequence("Arguments of the program.")
    env: EnvVars = sequence("Environment.")
    tolerations: list[Toleration] = sequence("Taints that the pods tolerate.")
    volume_mounts: list[VolumeMount] = sequence("Where volumes of the runtime appear.")


class CacheMaster(CacheComponent):
    """The masters of a CacheRuntime."""

    replicas: Count = defaulted(1, "Number of masters.")


class CacheWorker(CacheComponent):
    """The workers of a CacheRuntime."""

    replicas: Count = defaulted(1, "Number of workers.")
    tiered_store: RuntimeTieredStore | None = optional("Cache levels of a worker.")


class CacheClient(CacheComponent):
    """The clients of a CacheRuntime."""

    tiered_store: RuntimeTieredStore | None = optional("Cache levels of a client.")
    clean_policy: Literal["OnRuntimeDeleted", "OnDemand"] = defaulted(
        "OnRuntimeDeleted", "When the client ends."
    )


class CacheRuntimeSpec(RuntimePodMetadata):
    """What the user wants of an engine described by a class."""

    runtime_class_name: str = Field(
        description="The CacheRuntimeClass; `fluidpy` is the engine that comes with fluidpy.",
        min_length=1,
    )
    master: CacheMaster | None = optional("The masters.")
    worker: CacheWorker | None = optional("The workers.")
    client: CacheClient | None = optional("The clients.")
    options: Options = mapping("Options of all components; win over the class's.")
    volumes: list[Volume] = sequence("Volumes that components may mount.")
    image_pull_secrets: list[LocalObjectReference] = sequence("Secrets to pull images with.")


class CacheRuntime(FluidResource):
    """An engine for the Dataset of the same name."""

    kind: Literal["CacheRuntime"] = "CacheRuntime"
    spec: CacheRuntimeSpec = Field(description="What is wanted.")
    status: CacheRuntimeStatus = Field(
        default_factory=CacheRuntimeStatus, description="What is seen."
    )


class ExecutionCommonEntry(Model):
    """A command that is run in a component."""

    command: list[str] = Field(description="Program and arguments.", min_length=1)
    timeout: Int32 = defaulted(20, "Seconds it may take; below 20 is read as 20.")


class ExecutionEntries(Model):
    """Commands an engine offers; each prints JSON."""

    mount_ufs: ExecutionCommonEntry | None = optional(
        "Mounts and unmounts the sources; prints the paths that are mounted."
    )
    report_summary: ExecutionCommonEntry | None = optional("Prints figures of the cache.")


class HeadlessService(Model):
    """A service without an address of its own; has no fields."""


class ComponentService(Model):
    """How a component is found by the others."""

    headless: HeadlessService | None = optional("Whether there is a headless service.")


class ConfigMapMount(Model):
    """A ConfigMap of the class and where it appears."""

    name: str = defaulted("", "Name of the ConfigMap.")
    mount_path: str = defaulted("", "Absolute path in the container.")


class ExtraResourcesMounts(Model):
    """Objects of the class that a component mounts."""

    config_maps: list[ConfigMapMount] = sequence("ConfigMaps.")


class SecretMount(Model):
    """Whether a component gets the Dataset's Secrets."""

    enabled: bool | None = optional("Default true for master and worker, false for client.")


class ComponentDependencies(Model):
    """What a component needs."""

    extra_resources: ExtraResourcesMounts | None = optional("Objects of the class to mount.")
    secret_mount: SecretMount | None = optional("The Dataset's Secrets.")


class ComponentDefinition(Model):
    """A component of an engine."""

    template: PodTemplateSpec | None = optional(
        "The pod; the first container is the engine's.", repr=False
    )
    service: ComponentService | None = optional("How it is found.")
    dependencies: ComponentDependencies | None = optional("What it needs.")
    options: Options = mapping("Default options.")
    execution_entries: ExecutionEntries | None = optional("Commands it offers.")


class RuntimeTopology(Model):
    """Which components an engine has."""

    master: ComponentDefinition | None = optional("The masters.")
    worker: ComponentDefinition | None = optional("The workers.")
    client: ComponentDefinition | None = optional("The clients.")


class ConfigMapDefinition(Model):
    """A ConfigMap that is made in the runtime's namespace."""

    name: str = defaulted("", "Name of the ConfigMap.")
    data: StringMap = mapping("Texts by name.")


class ExtraResources(Model):
    """Objects that are made with a runtime."""

    config_maps: list[ConfigMapDefinition] = sequence("ConfigMaps.")


class DataOperationSpec(Model):
    """How an engine does a data operation."""

    name: OperationKind = Field(description="Kind of the operation.")
    image: str | None = optional("Image; the worker's if left out.")
    command: list[str] = sequence("Program.")
    args: list[str] = sequence("Arguments.")


class CacheRuntimeClass(FluidResource):
    """An engine, for the whole cluster. Its fields stand at the top, without a spec."""

    kind: Literal["CacheRuntimeClass"] = "CacheRuntimeClass"
    file_system_type: str = Field(
        description="Type of the client's mount as the kernel names it.", min_length=1
    )
    topology: RuntimeTopology | None = optional("Components of the engine.")
    extra_resources: ExtraResources | None = optional("Objects that are made with a runtime.")
    data_operation_specs: list[DataOperationSpec] = sequence("Data operations the engine can do.")
