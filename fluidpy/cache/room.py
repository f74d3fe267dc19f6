"""Making room: where a file may grow, and which files leave or move for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fluidpy.cache.accounting import plan_room
from fluidpy.cache.cache_file import CacheFile, Tier
from fluidpy.cache.eviction import FileId
from fluidpy.cache.file_table import FileTable
from fluidpy.cache.tier import TierDefinition

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject

_BATCH: Final = 128
"""Files that one reservation evicts beyond what it needs itself: a millisecond or two."""
_SKIPPED: Final = 65536
"""Files in use or pinned that are passed over before a tier is called full."""

_SPARED: Final = 512
"""Leased files that are passed over for others, while enough bytes are on their way out."""


class RoomMaker:
    """Finds room for reservations within quota and disk. Runs under the store's lock."""

    def __init__(self, table: FileTable, wake_demotion: Callable[[], None]) -> None:
        self._table = table
        self._wake_demotion = wake_demotion

    def place(self, file: CacheFile, need: int, copy: bool = False) -> None:
        """Sets the file's tier so that `need` bytes fit, evicting if it must: for a copy, copies.

        A new file goes to the first tier with room; only when none has any is something evicted,
        in the first tier first. Raises CacheFullError.
        """
        if file.tier is None:
            file.tier = self.tier_for(need, file, copy)
        elif not self.make_room(file.tier, need, file, copy):
            raise self._table.full_error(need)

    def tier_for(self, need: int, growing: CacheFile | None = None, copy: bool = False) -> Tier:
        """The tier of a new file of `need` bytes, which fit there now. Raises CacheFullError."""
        table = self._table
        for tier in table.tiers:
            account = tier.account
            if account.used + need <= account.quota and not account.lacks(need):
                self.make_room(tier, need, growing, copy)
                return tier
        for tier in table.tiers:
            if self.make_room(tier, need, growing, copy):
                return tier
        raise table.full_error(need)

    def make_room(
        self, tier: Tier, need: int, growing: CacheFile | None = None, copy: bool = False
    ) -> bool:
        """Evicts so that `need` bytes fit in the tier, and towards its low mark; False: no room.

        A copy pushes out copies alone, and only as many as it takes: going down to the low mark
        would cost others their place. What left and is still held is on its way out, and counts
        as free where it is not the quota or the disk that is at its end.
        """
        account, definition = tier.account, tier.definition
        if need > account.quota:
            return False
        if copy:
            must = max(account.used + need - account.quota, account.lacks(need))
            if must > 0:
                going = account.unlinked
                self.evict(tier, must, must - going, _BATCH, growing, copies_only=True)
            return account.used + need <= account.quota and not account.lacks(need)
        plan = plan_room(
            account.staying, need, account.quota, definition.high, definition.low, tier.evicting
        )
        tier.evicting = plan.evicting
        lacking = account.lacks(need)
        must = max(account.used + need - account.quota, lacking, 0)
        should = plan.should
        if should and tier is not self._table.tiers[-1]:
            self._wake_demotion()
            should = plan.must
        should = max(should, lacking - account.unlinked)
        if must or should > 0:
            self.evict(tier, must, should, _BATCH, growing)
        return account.used + need <= account.quota and not account.lacks(need)

    def resize(self, quota_bytes: int) -> None:
        """Lets the last tier hold so much from now on; upkeep evicts what is too much.

        Takes the store's lock itself.
        """
        tiers = [tier.definition for tier in self._table.tiers]
        self.redefine((*tiers[:-1], replace(tiers[-1], quota_bytes=quota_bytes)))

    def redefine(self, tiers: Sequence[TierDefinition]) -> None:
        """Lets each tier hold what is said now, with these marks; directories are as they were.

        What is too much leaves by upkeep, or moves down. Takes the store's lock itself.
        """
        with self._table.lock:
            for tier, definition in zip(self._table.tiers, tiers, strict=True):
                tier.definition = replace(definition, directory=tier.definition.directory)
                tier.account.quota = definition.quota_bytes
                if tier.account.used > definition.quota_bytes * definition.high:
                    tier.evicting = True
                    if tier is not self._table.tiers[-1]:
                        self._wake_demotion()

    def trim(self, tier: Tier) -> int:
        """One batch of an eviction that the high mark started; 0 when the low mark is reached."""
        excess = tier.account.staying - int(tier.account.quota * tier.definition.low)
        if not tier.evicting or excess <= 0:
            tier.evicting = False
            return 0
        return self.evict(tier, 0, excess, _BATCH)

    def evict(
        self,
        tier: Tier,
        must: int,
        should: int,
        batch: int,
        growing: CacheFile | None = None,
        *,
        copies_only: bool = False,
    ) -> int:
        """Drops files until `must` bytes are free, and `should` are or will be, or `batch` files
        left; returns the bytes of all that left.

        A leased file's bytes are free when its lease ends. Once `should` bytes left, others leave
        before more of these do, and of these `must` bytes at most.
        """
        account, leases = tier.account, self._table.leases
        before, left, dropped = account.used, 0, 0
        spared: list[tuple[CachedObject, CacheFile]] = []
        for victim in self._victims(tier, growing, copies_only):
            if left >= should and victim[0].key in leases:
                spared.append(victim)
                if len(spared) >= _SPARED:
                    break
                continue
            left += self._table.drop(*victim)
            dropped += 1
            if before - account.used >= must and (left >= should or dropped >= batch):
                return left
        for victim in spared:
            if left >= must:
                break
            left += self._table.drop(*victim)
        return left

    def _victims(
        self, tier: Tier, growing: CacheFile | None, copies_only: bool
    ) -> Iterator[tuple[CachedObject, CacheFile]]:
        skipped = 0
        for file_id in self._table.policy.victims(tier.id, copies_only):
            victim = self.victim(file_id, tier)
            if victim is not None and victim[1] is not growing:
                yield victim
                continue
            skipped += 1
            if skipped > _SKIPPED:
                return

    def victim(self, file_id: FileId, tier: Tier) -> tuple[CachedObject, CacheFile] | None:
        """The file, if it still lies in the tier and may leave."""
        owner = self._table.find_cold(file_id.key)
        if owner is None or owner.pinned:
            return None
        file = owner.file_at(file_id.number)
        if file.tier is not tier or not file.on_disk or owner.uses(file):
            return None
        return owner, file
