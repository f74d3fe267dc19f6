"""Making room: where a file may grow, and which files leave or move for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        would cost others their place.
        """
        account, definition = tier.account, tier.definition
        if need > account.quota:
            return False
        if copy:
            must = max(account.used + need - account.quota, account.lacks(need))
            if must > 0:
                self.evict(tier, must, must, _BATCH, growing, copies_only=True)
            return account.used + need <= account.quota and not account.lacks(need)
        plan = plan_room(
            account.used, need, account.quota, definition.high, definition.low, tier.evicting
        )
        tier.evicting = plan.evicting
        must = max(plan.must, account.lacks(need))
        should = plan.should
        if should and tier is not self._table.tiers[-1]:
            self._wake_demotion()
            should = must
        if must or should:
            self.evict(tier, must, max(must, should), _BATCH, growing)
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
        excess = tier.account.used - int(tier.account.quota * tier.definition.low)
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
        """Drops files until `should` bytes are free, or `must` and `batch` files; returns bytes."""
        freed = dropped = skipped = 0
        for file_id in self._table.policy.victims(tier.id, copies_only):
            victim = self.victim(file_id, tier)
            if victim is None or victim[1] is growing:
                skipped += 1
                if skipped > _SKIPPED:
                    break
                continue
            freed += self._table.drop(*victim)
            dropped += 1
            if freed >= should or (freed >= must and dropped >= batch):
                break
        return freed

    def victim(self, file_id: FileId, tier: Tier) -> tuple[CachedObject, CacheFile] | None:
        """The file, if it still lies in the tier and may leave."""
        owner = self._table.find_cold(file_id.key)
        if owner is None or owner.pinned:
            return None
        file = owner.file_at(file_id.number)
        if file.tier is not tier or not file.on_disk or owner.uses(file):
            return None
        return owner, file
