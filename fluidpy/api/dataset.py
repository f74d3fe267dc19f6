"""The Dataset: which data, from which sources, under which paths."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from fluidpy.api.conditions import DatasetCondition, DatasetPhase
from fluidpy.api.metadata import FluidResource
from fluidpy.api.model import (
    Int32,
    Int64,
    Model,
    NodeSelector,
    Options,
    StringMap,
    Toleration,
    defaulted,
    mapping,
    optional,
    sequence,
)

AccessMode: TypeAlias = Literal[
    "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
]


class SecretKeySelector(Model):
    """One key of a Secret in the object's own namespace."""

    name: str = Field(description="Name of the Secret.", min_length=1)
    key: str = defaulted("", "Key in the Secret's data.")


class EncryptOptionSource(Model):
    """Where the value of an encrypted option comes from."""

    secret_key_ref: SecretKeySelector = Field(description="The Secret and the key in it.")


class EncryptOption(Model):
    """An option whose value lies in a Secret, such as an access key."""

    name: str = Field(description="Name of the option that gets the value.", min_length=1)
    value_from: EncryptOptionSource = Field(description="Where the value comes from.")


class Mount(Model):
    """One source of a Dataset and the path it appears under."""

    mount_point: str = Field(
        description="Where the data lies: a URL such as s3://bucket/prefix, or an absolute path.",
        min_length=5,
    )
    name: str = defaulted(
        "", "Name of the mount; its data appears under /NAME unless path says otherwise."
    )
    path: str = defaulted("", "Absolute path in the Dataset where the data appears.")
    options: Options = mapping("Settings of the source, in clear text.")
    encrypt_options: list[EncryptOption] = sequence("Settings whose values lie in Secrets.")
    read_only: bool = defaulted(False, "Whether the engine must refuse writes to this source.")
    shared: bool = defaulted(False, "Whether all users of the engine may use this source.")

    @property
    def mounted_path(self) -> str:
        """Where the mount appears: `path` if it is absolute, else `/NAME`; without `//` or end `/`.

        Fluid's rule. `/` is the root of the Dataset.
        """
        raw = self.path if self.path.startswith("/") else f"/{self.name}"
        return "/" + "/".join(part for part in raw.split("/") if part)


class User(Model):
    """Who owns the data or runs a process."""

    uid: Int64 = Field(description="Numeric user id.")
    gid: Int64 = Field(description="Numeric group id.")
    user: str = Field(description="Name of the user.")
    group: str = Field(description="Name of the group.")


class DataRestoreLocation(Model):
    """Where a backup lies that the Dataset's metadata are restored from."""

    path: str | None = optional("local:///DIR or pvc://CLAIM/DIR.")
    node_name: str | None = optional("Node that holds the backup when the path is local://.")


class CacheableNodeAffinity(Model):
    """On which nodes the cache may lie."""

    required: NodeSelector | None = optional("Node selector that the workers' nodes must match.")


class RuntimeReference(Model):
    """A runtime that serves a Dataset."""

    name: str = defaulted("", "Name of the runtime.")
    namespace: str = defaulted("", "Namespace of the runtime.")
    category: str | None = optional("What it is for, such as Accelerate.")
    type: str | None = optional("Which engine, such as alluxio or thin.")
    master_replicas: Int32 | None = optional("Number of masters.")


class DatasetSpec(Model):
    """What the user wants of a Dataset."""

    mounts: list[Mount] = sequence(
        "Sources, side by side in one tree. May be left out; if given, at least one.",
        min_length=1,
    )
    owner: User | None = optional("Owner that files and folders are shown with.")
    node_affinity: CacheableNodeAffinity | None = optional("Where the cache may lie.")
    tolerations: list[Toleration] = sequence("Taints that the runtime's pods tolerate.")
    access_modes: list[AccessMode] = sequence(
        "How the volume may be used; empty means ReadOnlyMany."
    )
    runtimes: list[RuntimeReference] = sequence(
        "Accepted and ignored: a runtime is found by having the Dataset's name and namespace."
    )
    placement: Literal["Exclusive", "", "Shared"] = defaulted(
        "", "Exclusive, which is the default: the one Dataset on its nodes; Shared: one of several."
    )
    data_restore_location: DataRestoreLocation | None = optional(
        "A DataBackup to restore metadata from."
    )
    shared_options: Options = mapping("Options of every mount; a mount's own options win.")
    shared_encrypt_options: list[EncryptOption] = sequence(
        "Options of every mount whose values lie in Secrets."
    )


class HCFSStatus(Model):
    """Access for Hadoop clients."""

    endpoint: str | None = optional("URL for Hadoop clients.")
    underlayer_file_system_version: str | None = optional("Version they must be compatible with.")


class DatasetStatus(Model):
    """What is seen of a Dataset."""

    phase: DatasetPhase = defaulted("", "Where the Dataset is in its life.")
    mounts: list[Mount] = sequence("Mounts that are served.")
    runtimes: list[RuntimeReference] = sequence("Runtimes that serve the Dataset.")
    conditions: list[DatasetCondition] = sequence("State in detail.")
    ufs_total: str | None = optional("Size of the data, such as 1.92GiB, or [Calculating].")
    file_num: str | None = optional("Number of files, or [Calculating].")
    cache_states: StringMap = mapping("Figures of the cache, such as cached and cacheCapacity.")
    hcfs: HCFSStatus | None = optional("Access for Hadoop clients.")
    data_load_ref: str | None = optional("Replaced by operationRef.")
    data_backup_ref: str | None = optional("Replaced by operationRef.")
    operation_ref: StringMap = mapping("Running operations by kind, names joined by commas.")
    dataset_ref: list[str] = sequence("Datasets that refer to this one, as NAMESPACE/NAME.")
    observed_generation: Int64 | None = optional("Generation of the spec that is served.")


class Dataset(FluidResource):
    """A set of data: any number of sources as one tree."""

    kind: Literal["Dataset"] = "Dataset"
    spec: DatasetSpec = Field(default_factory=DatasetSpec, description="What is wanted.")
    status: DatasetStatus = Field(default_factory=DatasetStatus, description="What is seen.")
