"""Whether a disk answers soon enough to be waited for: a decision by the times of late."""

from __future__ import annotations

from typing import Final

PATIENCE_SECONDS: Final = 0.004
"""How long other requests may wait for a disk on the average: four times what 1 MiB takes at
1 GiB/s, and less than a disk takes that has to move its heads."""

_WEIGHT: Final = 0.25
"""Of the last read among all: after one that took 40 ms, four quick ones make up for it."""


class DiskPace:
    """How long reads from the disk took, the last ones counting most."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        """A disk is taken for a fast one."""
        self.seconds = 0.0

    @property
    def slow(self) -> bool:
        """Whether it had better not be waited for."""
        return self.seconds > PATIENCE_SECONDS

    def took(self, seconds: float) -> None:
        """One read from the disk took so long."""
        self.seconds += (seconds - self.seconds) * _WEIGHT
