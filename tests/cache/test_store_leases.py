"""Leases: files that others read unseen may leave, and their bytes count until the lease ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheFullError
from tests.cache.conftest import OpenStore, add, key_of

BLOCK = 4096
KEY = b"k" * 16


def open_store(directory: Path) -> BlockStore:
    tier = TierDefinition(os.fspath(directory / "tier"), 1 << 20)
    return BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot")


def fill(store: BlockStore) -> int:
    """A complete object of two blocks; the inode number of its file."""
    cached = store.create(KEY, 2 * BLOCK)
    cached.acquire()
    cached.reserve(0, 2 * BLOCK)
    cached.write(0, os.urandom(2 * BLOCK))
    cached.commit(0, 2 * BLOCK)
    cached.release()
    return Path(cached.path).stat().st_ino


def test_a_leased_file_leaves_and_counts_until_the_lease_ends(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        gone: list[bytes] = []
        store.on_evict.append(gone.append)
        ino = fill(store)
        assert store.lease(KEY, ino)
        assert store.lease(KEY, ino)
        assert store.evict(KEY) == 2 * BLOCK
        assert gone == [KEY]
        assert store.usage()[0].unlinked == 2 * BLOCK
        store.end_lease(KEY)
        assert store.is_leased(KEY)
        assert store.usage()[0].unlinked == 2 * BLOCK
        store.end_lease(KEY)
        assert not store.is_leased(KEY)
        assert store.usage()[0].unlinked == 0


def test_a_lease_is_of_one_file_that_is_complete(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert not store.lease(KEY, 1)
        cached = store.create(KEY, 2 * BLOCK)
        cached.reserve(0, BLOCK)
        cached.write(0, os.urandom(BLOCK))
        cached.commit(0, BLOCK)
        assert not store.lease(KEY, Path(cached.path).stat().st_ino)
        store.evict(KEY)
        ino = fill(store)
        assert not store.lease(KEY, ino + 1)
        assert not store.is_leased(KEY)
        assert store.lease(KEY, ino)
        store.end_lease(KEY)


def add_leased(store: BlockStore, numbers: range) -> None:
    """Objects of one block that somebody reads unseen."""
    for number in numbers:
        cached = add(store, number, BLOCK)
        assert store.lease(cached.key, Path(cached.path).stat().st_ino)


def blocks_kept(store: BlockStore, tier: int = 0) -> int:
    return store.usage()[tier].kept // BLOCK


def test_no_more_leased_files_leave_than_what_is_to_be_freed(open_store: OpenStore) -> None:
    store = open_store(500 * BLOCK)
    add_leased(store, range(200))
    store.room.resize(200 * BLOCK)
    low = int(200 * store.table.tiers[0].definition.low)
    for _ in range(3):
        store.maintain()
        assert blocks_kept(store) == low
    for number in range(200):
        store.end_lease(key_of(number))
    assert store.usage()[0].used == low * BLOCK


def test_files_that_are_not_leased_make_room_while_leased_ones_are_on_their_way_out(
    open_store: OpenStore,
) -> None:
    store = open_store(100 * BLOCK)
    add_leased(store, range(60))
    for number in range(60, 95):
        add(store, number, BLOCK)
    assert add(store, 1000, 8 * BLOCK).complete
    assert add(store, 1001, BLOCK).complete
    assert store.usage()[0].used <= 100 * BLOCK
    assert blocks_kept(store) >= int(100 * store.table.tiers[0].definition.low) - 1 - 4


def test_a_cache_full_of_leased_files_is_not_emptied_by_those_who_wait_for_room(
    open_store: OpenStore,
) -> None:
    store = open_store(500 * BLOCK)
    add_leased(store, range(200))
    store.room.resize(200 * BLOCK)
    low = int(200 * store.table.tiers[0].definition.low)
    for _ in range(5):
        with pytest.raises(CacheFullError):
            add(store, 1000, BLOCK)
    assert blocks_kept(store) >= low - 5
    for number in range(200):
        store.end_lease(key_of(number))
    assert add(store, 1000, BLOCK).complete


def test_no_more_leased_files_move_down_than_what_is_to_be_freed(open_store: OpenStore) -> None:
    store = open_store(200 * BLOCK, 1000 * BLOCK)
    add_leased(store, range(180))
    tier = store.table.tiers[0]
    tier.account.quota = 100 * BLOCK
    store._demotion.lower(tier)
    assert blocks_kept(store) == int(100 * tier.definition.low)
    assert blocks_kept(store) + blocks_kept(store, 1) == 180


def test_what_left_and_is_held_for_long_does_not_keep_others_from_leaving(
    open_store: OpenStore,
) -> None:
    store = open_store(100 * BLOCK)
    add_leased(store, range(95))
    for number in range(60):
        store.evict(key_of(number))
    add_leased(store, range(200, 205))
    with pytest.raises(CacheFullError):
        add(store, 1000, BLOCK)
    assert blocks_kept(store) == 39
    cached = {status.key for status in store.objects()}
    (left,) = {key_of(n) for n in (*range(60, 95), *range(200, 205))} - cached
    store.end_lease(left)
    assert add(store, 1000, BLOCK).complete
