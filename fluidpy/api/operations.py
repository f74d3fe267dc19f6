"""Data operations: DataLoad, DataMigrate, DataBackup, DataProcess."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fluidpy.api.conditions import OperationCondition, OperationPhase
from fluidpy.api.dataset import EncryptOption, User
from fluidpy.api.metadata import FluidResource
from fluidpy.api.model import (
    Affinity,
    AtLeastOne,
    Count,
    EnvVars,
    ImagePullPolicy,
    Int32,
    Int64,
    Model,
    OpenMapping,
    Options,
    PodSpec,
    ResourceRequirements,
    StringMap,
    Timestamp,
    Toleration,
    Volume,
    VolumeMount,
    defaulted,
    mapping,
    optional,
    sequence,
)

Policy: TypeAlias = Literal["Once", "Cron", "OnEvent"]
OperationKind: TypeAlias = Literal["DataLoad", "DataBackup", "DataMigrate", "DataProcess"]
Weight: TypeAlias = Annotated[int, Field(ge=1, le=100)]
"""Kubernetes' bounds of the weight of a preference."""


class PodMetadata(Model):
    """Labels and annotations for pods that are made."""

    labels: StringMap = mapping("Labels for the pods.")
    annotations: StringMap = mapping("Annotations for the pods.")


class ObjectRef(Model):
    """Another data operation."""

    kind: OperationKind = Field(description="Kind of the operation.")
    name: str = Field(description="Name of the operation.", min_length=1)
    namespace: str | None = optional("Namespace; the object's own when left out.")
    api_version: str | None = optional("API group and version of the operation.")


class RequiredAffinity(Model):
    """A node label whose value must be that of the earlier operation's node."""

    name: str = Field(description="Key of the node label.")


class PreferredAffinity(Model):
    """A node label whose value should be that of the earlier operation's node."""

    name: str = Field(description="Key of the node label.")
    weight: Weight = Field(description="Weight from 1 to 100.")


class AffinityStrategy(Model):
    """Whether an operation runs where an earlier one ran."""

    policy: Literal["", "Require", "Prefer"] = defaulted("", "Must, should, or does not matter.")
    depend_on: ObjectRef | None = optional("Operation whose place counts; that of runAfter if not.")
    prefers: list[PreferredAffinity] = sequence("Labels to prefer.")
    requires: list[RequiredAffinity] = sequence("Labels to require.")


class OperationRef(ObjectRef):
    """The operation that must be Complete before this one starts."""

    affinity_strategy: AffinityStrategy | None = optional("Whether to run where that one ran.")


class WaitingStatus(Model):
    """What an operation waits for."""

    operation_complete: bool | None = optional("Whether it waits for the one in runAfter.")


class OperationFailure(Model):
    """A file that an operation could not do, and why."""

    path: str = defaulted("", "Path in the Dataset.")
    message: str = defaulted("", "Why, for people.")


class OperationProgress(Model):
    """How far an operation is; totals grow while the source is still being listed."""

    files: Int64 = defaulted(0, "Files done; a file wanted in two copies counts twice.")
    files_total: Int64 = defaulted(0, "Files to do, as far as they are known.")
    bytes: Int64 = defaulted(0, "Bytes done.")
    bytes_total: Int64 = defaulted(0, "Bytes to do, as far as they are known.")
    bytes_per_second: Int64 = defaulted(0, "Bytes done a second of late.")
    eta_seconds: Int64 | None = optional("Seconds left at that rate; left out while unknown.")
    failed: Int64 = defaulted(0, "Files that could not be done.")
    failures: list[OperationFailure] = sequence("The first of those files, and why.")


class OperationStatus(Model):
    """What is seen of a data operation; the same for all four kinds."""

    phase: OperationPhase = defaulted("", "Where the operation is.")
    duration: str = defaulted("", "Time from creation to end, such as 1m30s, or Unfinished.")
    conditions: list[OperationCondition] = sequence("How it ended, and why.")
    infos: StringMap = mapping("Facts of the kind, such as BackupLocationPath.")
    last_schedule_time: Timestamp | None = optional("When a Cron run last started.")
    last_successful_time: Timestamp | None = optional("When a Cron run last succeeded.")
    waiting_for: WaitingStatus | None = optional("What it waits for.")
    node_affinity: OpenMapping | None = optional("Where it ran.")
    progress: OperationProgress | None = optional("How far it is.")
    observed_generation: Int64 | None = optional("Generation of the spec that is carried out.")


class _OperationSpec(Model):
    """What all four kinds have."""

    run_after: OperationRef | None = optional("Operation that must be Complete first.")
    ttl_seconds_after_finished: Count | None = optional(
        "Seconds after the end when the object is deleted; with policy Once only."
    )


class _ScheduledSpec(_OperationSpec):
    """What kinds have that can run again and again."""

    policy: Policy = defaulted("Once", "Run once, by cron schedule, or once on an event.")
    schedule: str | None = optional("Cron expression of five fields, for policy Cron.")


class _PodPlacement(Model):
    """Where and how the pods of an operation run."""

    affinity: Affinity | None = optional("Affinity of the pods.")
    tolerations: list[Toleration] = sequence("Taints that the pods tolerate.")
    node_selector: StringMap = mapping("Labels that the pods' nodes must have.")
    scheduler_name: str | None = optional("Scheduler of the pods.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pods.")
    resources: ResourceRequirements | None = optional("Requests and limits of the pods.")


class TargetDataset(Model):
    """The Dataset an operation works on."""

    name: str = Field(description="Name of the Dataset.", min_length=1)
    namespace: str | None = optional("Namespace; must be given and be the object's own.")


class TargetPath(Model):
    """A path to load."""

    path: str = Field(description="Path in the Dataset.")
    replicas: Int32 = defaulted(1, "Copies wanted in the cache; below 1 is read as 1.")


class DataLoadSpec(_ScheduledSpec, _PodPlacement):
    """Which paths to bring into the cache."""

    dataset: TargetDataset | None = optional("The Dataset to load.")
    load_metadata: bool = defaulted(False, "Whether to list the source again first.")
    target: list[TargetPath] = sequence("Paths to load; the whole Dataset when left out.")
    options: Options = mapping("Settings of the engine's loader, such as timeout.")


class DataLoad(FluidResource):
    """Brings data of a Dataset into the cache before it is asked for."""

    kind: Literal["DataLoad"] = "DataLoad"
    spec: DataLoadSpec = Field(default_factory=DataLoadSpec, description="What is wanted.")
    status: OperationStatus = Field(default_factory=OperationStatus, description="What is seen.")


class DatasetToMigrate(Model):
    """A Dataset as source or destination."""

    name: str = Field(description="Name of the Dataset.", min_length=1)
    namespace: str = Field(description="Namespace of the Dataset.", min_length=1)
    path: str | None = optional("Path in the Dataset.")


class ExternalStorage(Model):
    """A store outside any Dataset as source or destination."""

    uri: str = Field(description="URL of the store, such as s3://bucket/prefix.", min_length=1)
    encrypt_options: list[EncryptOption] = sequence("Settings whose values lie in Secrets.")


class DataToMigrate(Model):
    """One side of a migration: a Dataset or an external store."""

    dataset: DatasetToMigrate | None = optional("A Dataset.")
    external_storage: ExternalStorage | None = optional("A store outside any Dataset.")


class DataMigrateSpec(_ScheduledSpec, _PodPlacement):
    """From where to where data are copied."""

    from_: DataToMigrate = Field(description="Source of the data.")
    to: DataToMigrate = Field(description="Destination of the data.")
    block: bool = defaulted(False, "Accepted and ignored.")
    runtime_type: str | None = optional("Engine that does it, if several could.")
    options: Options = mapping("Settings of the copying tool, such as timeout.")
    parallelism: AtLeastOne = defaulted(1, "Number of processes that share the work.")
    parallel_options: StringMap = mapping(
        "sshSecretName (needed with more than one process), sshPort, sshReadyTimeoutSeconds."
    )
    image: str | None = optional("Image of the pods.")
    image_tag: str | None = optional("Tag of the image.")
    image_pull_policy: ImagePullPolicy | None = optional("When to pull the image.")


class DataMigrate(FluidResource):
    """Copies data between a Dataset and another store."""

    kind: Literal["DataMigrate"] = "DataMigrate"
    spec: DataMigrateSpec = Field(description="What is wanted.")
    status: OperationStatus = Field(default_factory=OperationStatus, description="What is seen.")


class DataBackupSpec(_OperationSpec):
    """Of which Dataset and to where metadata are saved."""

    dataset: str = defaulted("", "Name of a Dataset in the same namespace.")
    backup_path: str = defaulted("", "local:///DIR or pvc://CLAIM/DIR.")
    run_as: User | None = optional("User that runs the backup.")


class DataBackup(FluidResource):
    """Saves the metadata of a Dataset."""

    kind: Literal["DataBackup"] = "DataBackup"
    spec: DataBackupSpec = Field(default_factory=DataBackupSpec, description="What is wanted.")
    status: OperationStatus = Field(default_factory=OperationStatus, description="What is seen.")


class TargetDatasetWithMountPath(TargetDataset):
    """A Dataset and where it appears in the processing container."""

    mount_path: str = Field(description="Absolute path in every container.", min_length=1)
    sub_path: str | None = optional("Path in the Dataset that is mounted.")


class JobProcessor(Model):
    """A pod that processes the data."""

    pod_spec: PodSpec | None = optional("The whole pod.", repr=False)


class ScriptProcessor(Model):
    """A script that processes the data."""

    source: str = Field(description="Text of the script.", repr=False)
    command: list[str] = sequence("Interpreter and its arguments, such as bash.")
    image: str | None = optional("Image that the script runs in.")
    image_tag: str | None = optional("Tag of the image.")
    image_pull_policy: ImagePullPolicy | None = optional("When to pull the image.")
    restart_policy: Literal["Never", "OnFailure"] = defaulted("Never", "After a failure.")
    env: EnvVars = sequence("Environment of the script.")
    volumes: list[Volume] = sequence("Volumes besides the Dataset.")
    volume_mounts: list[VolumeMount] = sequence("Where those volumes appear.")
    resources: ResourceRequirements | None = optional("Requests and limits.")


class Processor(Model):
    """What processes the data: a job or a script."""

    service_account_name: str | None = optional("Service account of the pod.")
    pod_metadata: PodMetadata | None = optional("Labels and annotations for the pod.")
    job: JobProcessor | None = optional("A pod of your own.")
    script: ScriptProcessor | None = optional("A script.")


class DataProcessSpec(_ScheduledSpec):
    """What is run over which Dataset."""

    dataset: TargetDatasetWithMountPath = Field(description="The Dataset and where it appears.")
    processor: Processor = Field(description="What processes the data.")


class DataProcess(FluidResource):
    """Runs a program of the user's over a Dataset."""

    kind: Literal["DataProcess"] = "DataProcess"
    spec: DataProcessSpec = Field(description="What is wanted.")
    status: OperationStatus = Field(default_factory=OperationStatus, description="What is seen.")
