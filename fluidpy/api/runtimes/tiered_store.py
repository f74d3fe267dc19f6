"""Cache levels: on which medium, at which paths, and how much.

Two forms exist in Fluid: `TieredStore` (field `tieredstore`) of the engines with a kind of their
own, and `RuntimeTieredStore` (field `tieredStore`) of CacheRuntime.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from fluidpy.api.model import Model, VolumeSource, defaulted, optional, sequence
from fluidpy.api.quantity import Quantity

MediumType: TypeAlias = Literal["MEM", "SSD", "HDD"]


class Level(Model):
    """One level of a cache."""

    mediumtype: MediumType = Field(description="Memory, solid state or hard disk.")
    volume_type: Literal["hostPath", "emptyDir"] = defaulted(
        "hostPath", "Whether the paths are of the node or of the pod."
    )
    volume_source: VolumeSource | None = optional("Details of the volume, for emptyDir.")
    path: str | None = optional("Directories, joined by commas.", min_length=1)
    quota: Quantity | None = optional("Bytes for the whole level, shared equally by its paths.")
    quota_list: str | None = optional("Bytes for each path, joined by commas.", min_length=1)
    high: str | None = optional("Share of the quota, 0 to 1, at which eviction starts.")
    low: str | None = optional("Share of the quota, 0 to 1, at which eviction ends.")

    @property
    def paths(self) -> list[str]:
        """The level's directories."""
        return _comma_list(self.path)

    @property
    def quotas(self) -> list[str]:
        """The texts of `quotaList`."""
        return _comma_list(self.quota_list)


class TieredStore(Model):
    """The levels of a cache, fastest first."""

    levels: list[Level] = sequence("Levels, fastest first.")


class ProcessMemoryLevel(Model):
    """A level in the memory of the worker itself."""

    quota: Quantity = Field(description="Bytes of memory.")


class EmptyDirLevel(Model):
    """A level in a volume that lives as long as the pod."""

    quota: Quantity = Field(description="Bytes of the volume.")
    medium: Literal["", "Memory"] = defaulted("", "Memory for tmpfs, empty for the node's disk.")


class HostPathLevel(Model):
    """A level in directories of the node."""

    paths: list[str] = Field(description="Directories.", min_length=1)
    quotas: list[Quantity] = Field(description="Bytes, one for each path.", min_length=1)
    type: str | None = optional("What must be there, as Kubernetes' hostPath type.")


class RuntimeTieredStoreLevel(Model):
    """One level: exactly one of processMemory, emptyDir, hostPath."""

    process_memory: ProcessMemoryLevel | None = optional("In the worker's memory.")
    empty_dir: EmptyDirLevel | None = optional("In a volume of the pod.")
    host_path: HostPathLevel | None = optional("In directories of the node.")
    high: str | None = optional("Share of the quota, 0 to 1, at which eviction starts.")
    low: str | None = optional("Share of the quota, 0 to 1, at which eviction ends.")


class RuntimeTieredStore(Model):
    """The levels of a CacheRuntime's cache, fastest first."""

    levels: list[RuntimeTieredStoreLevel] = sequence("Levels, fastest first.")


def _comma_list(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []
