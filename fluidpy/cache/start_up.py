"""What a store believes of what it finds at its start."""

from __future__ import annotations

from collections.abc import Sequence

from fluidpy.cache.cache_file import Tier
from fluidpy.cache.index import Index
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheDirectoryError


def open_tiers(definitions: Sequence[TierDefinition]) -> list[Tier]:
    """The tiers, their directories checked and locked. Raises CacheDirectoryError."""
    directories = [definition.directory for definition in definitions]
    if len(set(directories)) != len(directories):
        raise CacheDirectoryError(
            f"two cache tiers share a directory: {', '.join(directories)}",
            cure="Give each tier a directory of its own.",
        )
    opened: list[Tier] = []
    try:
        for position, definition in enumerate(definitions):
            opened.append(Tier(position, definition))
    except CacheDirectoryError:
        for tier in opened:
            tier.directory.close()
        raise
    return opened


def settle_start(index: Index, tiers: Sequence[Tier], token: str) -> None:
    """Decides what of the index is trusted, and sets ids and accounts of the tiers.

    Same boot: a file that looks as the index says (inode, ctime, mtime) is trusted, clean stop or
    not, since a row is written after its bytes and one that changed afterwards looks different.
    Another boot: the bytes may not have reached the disk, so a new trust generation begins and
    every file is verified before its first use.
    """
    if index.get_meta("boot") != token:
        generation = int(index.get_meta("generation") or 1)
        index.set_meta("generation", generation + (0 if index.is_new else 1))
        index.set_meta("boot", token)
    index.unclean = index.get_meta("clean") != token
    index.set_meta("clean", None)
    for tier, number in zip(
        tiers, index.register_tiers([t.definition.directory for t in tiers]), strict=True
    ):
        tier.id = number
    totals = index.totals()
    for tier in tiers:
        tier.account.kept = totals.get(tier.id, 0)
