"""Structs that several runtime kinds share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from fluidpy.api.metadata import FluidResource
from fluidpy.api.model import (
    ImagePullPolicy,
    Int32,
    Model,
    ResourceRequirements,
    defaulted,
    mapping,
    optional,
)
from fluidpy.api.operations import PodMetadata
from fluidpy.api.runtimes.status import RuntimeStatus

Replicas: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Replicas of a component that cannot be empty."""

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

    grace_period_seconds: Int32 = defaulted(60, "Seconds the cleaning may take.", ge=0)
    max_retry_attempts: Int32 = defaulted(3, "How often it is tried again.", ge=0)


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


class EngineRuntime(FluidResource):
    """A runtime whose status is the common one."""

    status: RuntimeStatus = Field(default_factory=RuntimeStatus, description="What is seen.")
