"""A process that fills, evicts and damages a store at random until it is killed."""

from __future__ import annotations

import random
import sys

from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheFullError
from tests.cache.conftest import BLOCK, content_of, key_of

OBJECTS = 24


def size_of(number: int) -> int:
    return 1 + number * 977 % (12 * BLOCK)


def tiers_of(root: str) -> list[TierDefinition]:
    return [
        TierDefinition(f"{root}/tier0", 30 * BLOCK),
        TierDefinition(f"{root}/tier1", 60 * BLOCK),
    ]


def main(root: str, seed: str) -> None:
    chance = random.Random(seed)
    store = BlockStore.open(tiers_of(root), block_bytes=BLOCK)
    print("ready", flush=True)
    while True:
        number = chance.randrange(OBJECTS)
        item = store.create(key_of(number), size_of(number))
        try:
            for start, end in item.missing(0, item.size):
                item.reserve(start, end)
                item.write(start, content_of(number, item.size)[start:end])
                if chance.random() < 0.9:
                    item.commit(start, end)
                else:
                    item.abandon(start, end)
        except CacheFullError:
            store.evict(key_of(chance.randrange(OBJECTS)))
        if chance.random() < 0.1:
            store.evict(key_of(chance.randrange(OBJECTS)))
        if chance.random() < 0.3:
            store.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
