"""Leases: files that others read unseen may leave, and their bytes count until the lease ends."""

from __future__ import annotations

import os
from pathlib import Path

from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition

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
