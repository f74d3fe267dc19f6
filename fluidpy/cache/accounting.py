"""How many bytes of a tier are spoken for, and whether more may be.

Nothing here does I/O except `free_bytes`; the store's lock guards every call.
"""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple

KEPT_FREE_BYTES: Final = 64 * 1024 * 1024
"""Left free on the file system, or 1 % of it where that is less, so that ENOSPC stays rare."""
_INDEX_BYTES: Final = 256 * 1024
"""Left free on the smallest file systems, for the index's log."""
_STATVFS_SECONDS: Final = 1.0
_STATVFS_BYTES: Final = 16 * 1024 * 1024


class RoomPlan(NamedTuple):
    """What to evict before `need` more bytes fit.

    `must` bytes have to go first; `should` is how far to go on towards the low mark; `evicting`
    says that the tier is between its marks on the way down.
    """

    must: int
    should: int
    evicting: bool


def plan_room(
    used: int, need: int, quota: int, high: float, low: float, evicting: bool
) -> RoomPlan:
    """The watermark decision: the quota is a hard limit, high starts an eviction, low ends it."""
    after = used + need
    must = max(0, after - quota)
    above_high = after > int(quota * high)
    above_low = after > int(quota * low)
    going_down = above_low and (evicting or above_high)
    should = max(must, after - int(quota * low)) if going_down else must
    return RoomPlan(must, should, going_down)


class TierAccount:
    """Bytes of one tier, in whole pages: `kept` in files, `reserved` for fetches under way,
    `unlinked` in files that left the cache while somebody still held them.
    """

    __slots__ = ("_checked_at", "_free", "_unchecked", "descriptor", "kept", "quota", "reserved",
                 "unlinked")  # fmt: skip

    def __init__(self, quota: int, descriptor: int) -> None:
        self.quota = quota
        self.descriptor = descriptor
        self.kept = 0
        self.reserved = 0
        self.unlinked = 0
        self._free = 0
        self._checked_at = -1.0
        self._unchecked = 0

    @property
    def used(self) -> int:
        """Everything that counts against the quota, in bytes."""
        return self.kept + self.reserved + self.unlinked

    @property
    def staying(self) -> int:
        """What will still count, in bytes, when nobody holds any more what left already."""
        return self.kept + self.reserved

    def free_bytes(self) -> int:
        """Bytes that may still be written to the file system, reservations taken off.

        The file system is asked at most once a second or every 16 MiB, since it costs a call.
        """
        now = time.monotonic()
        if now - self._checked_at > _STATVFS_SECONDS or self._unchecked > _STATVFS_BYTES:
            facts = os.fstatvfs(self.descriptor)
            kept_free = min(
                KEPT_FREE_BYTES, max(_INDEX_BYTES, facts.f_blocks * facts.f_frsize // 100)
            )
            self._free = facts.f_bavail * facts.f_frsize - kept_free - self.reserved
            self._checked_at = now
            self._unchecked = 0
        return self._free

    def lacks(self, need: int) -> int:
        """Bytes missing on the real file system before `need` more fit (0: they fit)."""
        return max(0, need - self.free_bytes())

    def reserve(self, need: int) -> None:
        """Takes `need` bytes; the caller has checked quota and disk."""
        self.reserved += need
        self._free -= need
        self._unchecked += need

    def give_back(self, amount: int) -> None:
        """Returns a reservation that was not used."""
        self.reserved -= amount
        self._free += amount

    def keep(self, amount: int) -> None:
        """Turns reserved bytes into kept ones."""
        self.reserved -= amount
        self.kept += amount

    def freed_on_disk(self) -> None:
        """Notes that a file was unlinked: the disk is asked again before it is believed full."""
        self._checked_at = -1.0
