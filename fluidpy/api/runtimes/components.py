"""Structs that several runtime kinds share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from fluidpy.api.metadata import FluidResource
from fluidpy.api.model import (
    Count,
    ImagePullPolicy,
    Model,
    NetworkMode,
    ResourceRequirements,
    StringMap,
    defaulted,
    mapping,
    optional,
)
from fluidpy.api.operations import PodMetadata
from fluidpy.api.runtimes.status import RuntimeStatus
from fluidpy.api.runtimes.tiered_store import TieredStore

CleanPolicy: TypeAlias = str
"""When FUSE clients end: OnRuntimeDeleted (the meaning of ""), OnDemand, OnFuseChanged.

Checked in `validation`, since only CacheRuntime's is an enum in Fluid.
"""
CLEAN_POLICIES = ("", "OnRuntimeDeleted", "OnDemand", "OnFuseChanged")

EnvMap: TypeAlias = Annotated[dict[str, str], Field(repr=False)]
"""Environment as a map; kept out of `repr`, for users put credentials in it."""


class VersionSpec(Model):
    """An image."""

    image: str | None = optional("Image without tag.")
    image_tag: str | None = optional("Tag of the image.")
    image_pull_policy: ImagePullPolicy | None = optional("When to pull the image.")


class InitUsersSpec(VersionSpec):
    """The image that makes users before the engine starts."""

    env: EnvMap = mapping("Environment.")
    resources: ResourceRequirements | None = optional("Requests and limits.")


class CleanCachePolicy(Model):
    """How the cache is cleaned when the runtime goes."""

    grace_period_seconds: Count = defaulted(60, "Seconds the cleaning may take.")
    max_retry_attempts: Count = defaulted(3, "How often it is tried again.")


class MetadataSyncPolicy(Model):
    """Whether metadata are read from the source without being asked for."""

    auto_sync: bool | None = optional("Default true; false for ThinRuntime.")


class RuntimeManagement(Model):
    """How a runtime is looked after."""

    clean_cache_policy: CleanCachePolicy | None = optional("Cleaning when the runtime goes.")
    metadata_sync_policy: MetadataSyncPolicy | None = optional("Reading of metadata.")


class RuntimePodMetadata(Model):
    """The kinds that label all their pods."""

    pod_metadata: PodMetadata | None = optional("Labels and annotations for all pods.")


class EngineSpec(RuntimePodMetadata):
    """What engines with kinds of their own have in common, with the same words."""

    tieredstore: TieredStore | None = optional("Cache levels of a worker.")
    replicas: Count | None = optional("Number of workers.")


class PodNeeds(Model):
    """What the pods of a component ask of a node."""

    resources: ResourceRequirements | None = optional("Requests and limits.")
    node_selector: StringMap = mapping("Labels that the nodes must have.")


class Networked(Model):
    """The components whose network can be chosen."""

    network_mode: NetworkMode = defaulted("", "HostNetwork, the default, or ContainerNetwork.")


class EngineRuntime(FluidResource):
    """A runtime whose status is the common one."""

    status: RuntimeStatus = Field(default_factory=RuntimeStatus, description="What is seen.")
