"""A tier of the cache: a directory, how much may lie in it, and when to make room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fluidpy.errors import ValidationError

DEFAULT_HIGH: Final = 0.95
"""Share of the quota above which files are evicted (Fluid's `tieredstore.levels[].high`)."""
DEFAULT_LOW: Final = 0.85
"""Share of the quota down to which they are (the gap keeps evictions in batches)."""
MEDIA: Final = ("MEM", "SSD", "HDD")
"""Fluid's `tieredstore.levels[].mediumtype`."""
STORE_FOLDER: Final = "fluidpy-store"
"""Subfolder made in a directory that a user names, so that nothing of his is touched."""
SMALLEST_QUOTA: Final = 4096
"""One page, in bytes: less cannot hold a file."""


@dataclass(frozen=True, slots=True)
class TierDefinition:
    """One level of the cache; levels are ordered, the fastest first.

    `directory` is an absolute path that belongs to the store alone; `quota_bytes` the most it may
    hold; above `high` × quota files are evicted (or moved to the next level) down to `low` × quota;
    `medium` is one of MEM, SSD, HDD. Raises ValidationError listing every wrong value.
    """

    directory: str
    quota_bytes: int
    high: float = DEFAULT_HIGH
    low: float = DEFAULT_LOW
    medium: str = "SSD"

    def __post_init__(self) -> None:
        problems = []
        if not Path(self.directory).is_absolute():
            problems.append(f"directory {self.directory!r} is not an absolute path")
        if self.quota_bytes < SMALLEST_QUOTA:
            problems.append(f"quota is {self.quota_bytes} bytes, less than {SMALLEST_QUOTA}")
        if not 0 < self.low < self.high <= 1:
            problems.append(f"low {self.low} and high {self.high} are not 0 < low < high <= 1")
        if self.medium not in MEDIA:
            problems.append(f"medium {self.medium!r} is none of {', '.join(MEDIA)}")
        if problems:
            raise ValidationError(
                f"cache tier {self.directory}: " + "; ".join(problems),
                cure="Correct the tieredstore level.",
            )

    @classmethod
    def in_directory(
        cls,
        directory: str,
        quota_bytes: int,
        *,
        high: float = DEFAULT_HIGH,
        low: float = DEFAULT_LOW,
        medium: str = "SSD",
    ) -> TierDefinition:
        """The tier in the subfolder `fluidpy-store` of a directory that a user named."""
        return cls(str(Path(directory) / STORE_FOLDER), quota_bytes, high, low, medium)

    def to_wire(self) -> dict[str, Any]:
        """The tier as plain JSON values."""
        return {
            "directory": self.directory,
            "quota_bytes": self.quota_bytes,
            "high": self.high,
            "low": self.low,
            "medium": self.medium,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> TierDefinition:
        """The tier that `to_wire` described."""
        return cls(
            str(wire["directory"]),
            int(wire["quota_bytes"]),
            float(wire["high"]),
            float(wire["low"]),
            str(wire["medium"]),
        )


def default_tier(
    directory: Path, share: float, *, kept_bytes: int = 0, medium: str = "SSD"
) -> TierDefinition:
    """The tier used when none is declared: `directory`, `share` of the free space at most.

    `kept_bytes` is what the tier holds already (so that the quota does not shrink at each start
    as the cache fills). The directory need not exist: its nearest existing parent is asked.
    """
    parent = directory
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    facts = os.statvfs(parent)
    free = facts.f_bavail * facts.f_frsize + kept_bytes
    return TierDefinition(str(directory), max(SMALLEST_QUOTA, int(free * share)), medium=medium)
