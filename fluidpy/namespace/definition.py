"""What a Dataset comes down to: mounts with their sources and paths, tiers, owner, freshness.

Plain frozen values. They cross to the worker by `to_wire` and `from_wire` (JSON values, secrets
included, so only over private channels); their `repr` shows no secret.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fluidpy.cache.tier import TierDefinition
from fluidpy.storage.under_storage import MountSource

NEVER = "never"
"""How an infinite `metadata_ttl_seconds` is written in JSON, which has no infinity."""


@dataclass(frozen=True, slots=True)
class MountDefinition:
    """One mount: its name, where it lies in the Dataset (`/` or `/a/b`), and its source."""

    name: str
    path: str
    source: MountSource

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, secrets included."""
        return {"name": self.name, "path": self.path, "source": self.source.to_wire()}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> MountDefinition:
        """The mount that `to_wire` described."""
        return cls(wire["name"], wire["path"], MountSource.from_wire(wire["source"]))


@dataclass(frozen=True, slots=True)
class DatasetDefinition:
    """One Dataset, ready to be served.

    `uid` and `gid` own all files (None: the reader). `metadata_ttl_seconds` is how long a folder's
    listing counts as fresh (None: as the settings say; `math.inf`: never listed again).
    `keep_on_disk` false keeps the Dataset off disks: its tiers are then memory ones only.
    No `tiers` means the default tier.
    """

    name: str
    namespace: str
    mounts: tuple[MountDefinition, ...]
    tiers: tuple[TierDefinition, ...] = ()
    uid: int | None = None
    gid: int | None = None
    metadata_ttl_seconds: float | None = None
    keep_on_disk: bool = True

    @property
    def key(self) -> str:
        """`namespace/name`, unique on this machine."""
        return f"{self.namespace}/{self.name}"

    def digest(self) -> str:
        """32 hexadecimal digits over everything that matters, secrets included; tells changes."""
        text = json.dumps(self.to_wire(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def bytes_digest(self) -> str:
        """As `digest`, over what decides on the bytes of each path alone: name and mounts.

        Workers of a pool that have different tiers agree on it.
        """
        mounts = [mount.to_wire() for mount in self.mounts]
        text = json.dumps([self.key, mounts], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values for a private message to the worker; holds the secrets."""
        ttl = self.metadata_ttl_seconds
        return {
            "name": self.name,
            "namespace": self.namespace,
            "mounts": [mount.to_wire() for mount in self.mounts],
            "tiers": [asdict(tier) for tier in self.tiers],
            "uid": self.uid,
            "gid": self.gid,
            "metadata_ttl_seconds": NEVER if ttl is not None and math.isinf(ttl) else ttl,
            "keep_on_disk": self.keep_on_disk,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> DatasetDefinition:
        """The Dataset that `to_wire` described."""
        ttl = wire["metadata_ttl_seconds"]
        return cls(
            name=wire["name"],
            namespace=wire["namespace"],
            mounts=tuple(MountDefinition.from_wire(mount) for mount in wire["mounts"]),
            tiers=tuple(TierDefinition(**tier) for tier in wire["tiers"]),
            uid=wire["uid"],
            gid=wire["gid"],
            metadata_ttl_seconds=math.inf if ttl == NEVER else ttl,
            keep_on_disk=wire["keep_on_disk"],
        )
