from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheDirectoryError
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


class SharedDisk:
    """1000 blocks, less what two workers keep there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._real = os.statvfs(directory)
        monkeypatch.setattr("fluidpy.cache.tier.os.statvfs", self._facts)

    def open(self, name: str) -> tuple[Stores, BlockStore]:
        """The default store of a worker, one of two."""
        place = self._directory / name
        place.mkdir(mode=0o700, exist_ok=True)
        stores = Stores(Settings(place, place / "run", block_bytes=BLOCK, member_name=name))
        stores.share_among(2)
        return stores, stores.store_for(DatasetDefinition("data", "default", ()))

    def _facts(self, _: Any) -> Any:
        kept = len(list(self._directory.glob("*/store/objects/*/*")))
        real = self._real

        class Facts:
            f_bavail, f_frsize, f_blocks, f_flag = 1000 - kept, BLOCK, real.f_blocks, real.f_flag

        return Facts()


def _fill(store: BlockStore, blocks: int) -> None:
    for number in range(blocks):
        item = store.create(b"%016d" % number, BLOCK)
        item.reserve(0, BLOCK)
        item.write(0, bytes(BLOCK))
        item.commit(0, BLOCK)
    store.flush()


def test_a_restart_beside_other_full_workers_keeps_quota_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SharedDisk(tmp_path, monkeypatch)
    (first, one), (second, two) = disk.open("a"), disk.open("b")
    assert one.usage()[0].quota_bytes == 250 * BLOCK
    _fill(one, 230)
    _fill(two, 230)
    for _ in range(3):
        first.close()
        first, one = disk.open("a")
        usage = one.usage()[0]
        assert (usage.quota_bytes, usage.kept) == (250 * BLOCK, 230 * BLOCK)
    first.share_among(4)
    assert one.usage()[0].quota_bytes == 125 * BLOCK
    first.close()
    second.close()


def test_a_disk_that_cannot_be_asked_leaves_a_store_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stores = Stores(Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK))
    store = stores.store_for(DatasetDefinition("a", "default", ()))
    before = store.usage()[0].quota_bytes

    def fail(_: Any) -> Any:
        raise OSError(errno.EIO, "the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("fluidpy.cache.tier.os.statvfs", fail)
        stores.share_among(2)
    assert store.usage()[0].quota_bytes == before
    assert "keeps its size" in caplog.text
    stores.close()


def test_a_cache_directory_that_became_a_link_is_shared_all_the_same(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK)
    stores = Stores(settings)
    store = stores.store_for(DatasetDefinition("a", "default", ()))
    before = store.usage()[0].quota_bytes
    settings.cache_dir.rename(tmp_path / "elsewhere")
    settings.cache_dir.symlink_to(tmp_path / "elsewhere")
    stores.share_among(2)
    assert store.usage()[0].quota_bytes < 0.75 * before
    stores.close()
    stores.share_among(1)  # nothing is open any more


def _filled(store: BlockStore, numbers: range) -> None:
    for number in numbers:
        item = store.create(b"%016d" % number, BLOCK)
        item.reserve(0, BLOCK)
        item.write(0, bytes(BLOCK))
        item.commit(0, BLOCK)


def _declares(name: str, directory: Path, blocks: int) -> DatasetDefinition:
    return DatasetDefinition(name, "default", (), (TierDefinition(str(directory), blocks * BLOCK),))


def test_an_edited_quota_counts_at_once(tmp_path: Path) -> None:
    stores = Stores(Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK))
    small, large = (_declares("a", tmp_path / "t", blocks) for blocks in (100, 400))
    store = stores.store_for(small)
    stores.size_for(small)
    _filled(store, range(80))
    assert stores.store_for(large) is store
    stores.size_for(large)
    _filled(store, range(80, 300))
    assert store.usage()[0].quota_bytes == 400 * BLOCK
    assert store.usage()[0].used == 300 * BLOCK, "nothing had to leave"
    stores.size_for(small)
    store.maintain()
    assert store.usage()[0].quota_bytes == 100 * BLOCK
    assert 0 < store.usage()[0].used <= 85 * BLOCK, "down to the low mark"
    stores.close()


def test_of_datasets_that_share_a_store_the_largest_quota_counts(tmp_path: Path) -> None:
    stores = Stores(Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK))
    for name, blocks, counts in (("a", 100, 100), ("b", 50, 100), ("b", 300, 300), ("b", 20, 100)):
        one = _declares(name, tmp_path / "t", blocks)
        store = stores.store_for(one)
        stores.size_for(one)
        assert store.usage()[0].quota_bytes == counts * BLOCK
    stores.close()


def test_the_quota_of_a_dataset_that_is_closed_or_declares_none_counts_no_longer(
    tmp_path: Path,
) -> None:
    stores = Stores(Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK))
    small, large = _declares("a", tmp_path / "t", 100), _declares("b", tmp_path / "t", 400)
    store = stores.store_for(small)
    stores.size_for(small)
    for gone in (replace(large, tiers=()), None):
        assert stores.store_for(large) is store
        stores.size_for(large)
        assert store.usage()[0].quota_bytes == 400 * BLOCK
        if gone is None:
            stores.forget(large.key)
        else:
            stores.size_for(gone)
        assert store.usage()[0].quota_bytes == 100 * BLOCK
    stores.forget(small.key)
    assert store.usage()[0].quota_bytes == 100 * BLOCK, "its bytes are there when it comes again"
    stores.close()


def test_other_directories_say_when_they_take_effect(tmp_path: Path) -> None:
    stores = Stores(Settings(tmp_path / "cache", tmp_path / "run", block_bytes=BLOCK))
    one = _declares("a", tmp_path / "t", 100)
    store = stores.store_for(one)
    stores.size_for(one)
    more = TierDefinition(str(tmp_path / "u"), 100 * BLOCK)
    with pytest.raises(CacheDirectoryError, match="take effect when its worker starts again"):
        stores.store_for(replace(one, tiers=(*one.tiers, more)))
    stores.forget(one.key)
    with pytest.raises(CacheDirectoryError, match="take effect when its worker starts again"):
        stores.store_for(replace(one, tiers=(*one.tiers, more)))
    assert stores.store_for(one) is store
    stores.close()
