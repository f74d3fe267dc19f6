from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings
from fluidpy.worker.stores import Stores, open_block_store

BLOCK = 4096


class Opened:
    """Opens stores and remembers with which tiers."""

    def __init__(self) -> None:
        self.tiers: list[TierDefinition] = []

    def __call__(self, tiers: Sequence[TierDefinition], block: int, token: str) -> BlockStore:
        self.tiers += tiers
        return open_block_store(tiers, block, token)


def _no_walk(*_: Any) -> Iterator[Any]:
    raise AssertionError("the store's directory is walked")


def test_workers_of_one_machine_share_its_free_space_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)

    class Fixed:
        f_bavail, f_frsize, f_blocks, f_flag = 1000, BLOCK, real.f_blocks, real.f_flag

    monkeypatch.setattr("fluidpy.cache.tier.os.statvfs", lambda _: Fixed())
    stores = Stores(Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK))
    declared = DatasetDefinition("b", "default", (), (TierDefinition(str(tmp_path / "t"), 8192),))
    small = stores.store_for(declared)
    store = stores.store_for(DatasetDefinition("a", "default", ()))
    for number in range(300):
        item = store.create(b"%016d" % number, BLOCK)
        item.reserve(0, BLOCK)
        item.write(0, bytes(BLOCK))
        item.commit(0, BLOCK)
    assert store.usage()[0].quota_bytes == 500 * BLOCK
    stores.share_among(4)  # of 1000 blocks that are free and 300 that are kept
    assert store.usage()[0].quota_bytes == 1300 * BLOCK // 8
    store.maintain()
    assert 0 < store.usage()[0].used <= 1300 * BLOCK // 8
    stores.share_among(1)
    assert store.usage()[0].quota_bytes > 500 * BLOCK
    assert small.usage()[0].quota_bytes == 8192
    stores.close()


def test_the_default_quota_counts_what_is_kept_without_walking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK)
    definition = DatasetDefinition("data", "default", ())
    size = 64 * BLOCK
    stores = Stores(settings)
    item = stores.store_for(definition).create(b"k" * 16, size)
    item.reserve(0, size)
    item.write(0, bytes(size))
    item.commit(0, size)
    stores.close()
    real = os.statvfs(tmp_path)

    class Fixed:
        f_bavail, f_frsize, f_blocks, f_flag = 1000, BLOCK, real.f_blocks, real.f_flag

    monkeypatch.setattr("fluidpy.cache.tier.os.statvfs", lambda _: Fixed())
    monkeypatch.setattr("os.walk", _no_walk)
    opened = Opened()
    again = Stores(settings, opened)
    again.store_for(definition)
    again.store_for(definition)
    again.close()
    assert [tier.quota_bytes for tier in opened.tiers] == [(1000 * BLOCK + size) // 2]


def test_a_damaged_index_counts_as_nothing_kept(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK)
    (settings.cache_dir / "store").mkdir(parents=True, mode=0o700)
    (settings.cache_dir / "store" / "index.sqlite").write_bytes(b"no index" * 1000)
    stores = Stores(settings)
    assert stores.store_for(DatasetDefinition("data", "default", ())).usage()[0].kept == 0
    stores.close()
