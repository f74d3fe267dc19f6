"""Stores in temporary directories, and objects whose bytes are known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.cache.cached_object import CachedObject
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition

BLOCK = 4096

OpenStore = Callable[..., BlockStore]


def key_of(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def content_of(number: int, size: int) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(size)


def fill(item: CachedObject, content: bytes, start: int = 0, end: int | None = None) -> None:
    """What a fetcher does with the ranges that are missing."""
    for begin, stop in item.missing(start, item.size if end is None else end):
        item.reserve(begin, stop)
        item.write(begin, content[begin:stop])
        item.commit(begin, stop)


def add(store: BlockStore, number: int, size: int) -> CachedObject:
    item = store.create(key_of(number), size)
    fill(item, content_of(number, size))
    return item


def read_back(item: CachedObject) -> bytes:
    found = bytearray()
    while len(found) < item.size:
        with item.lease(len(found)) as (fd, offset, length):
            found += os.pread(fd, length, offset)
    return bytes(found)


def is_complete(item: CachedObject) -> bool:
    return item.complete


def used(store: BlockStore) -> int:
    return sum(tier.used for tier in store.usage())


def on_disk(*directories: Path) -> int:
    """Bytes that the cache files take, as the file system says."""
    files = [p for d in directories for p in (d / "objects").rglob("*") if p.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)


def reconcile(store: BlockStore) -> int:
    removed = 0
    for _ in range(256):
        report = store.reconcile()
        removed += report.removed_files
        if report.done:
            return removed
    raise AssertionError("the comparison does not end")


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens stores below the test's directory; those still open are closed at the end."""
    opened: list[BlockStore] = []

    def open_one(
        quota: int = 64 * BLOCK, *more: int, token: str = "boot", block: int = BLOCK
    ) -> BlockStore:
        definitions = [
            TierDefinition(str(tmp_path / f"tier{n}"), each)
            for n, each in enumerate((quota, *more))
        ]
        store = BlockStore.open(definitions, block_bytes=block, clean_token=token)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def crash(store: BlockStore) -> None:
    """Ends a store as kill -9 would: nothing queued is written, no clean mark; locks go."""
    store._demotion.stop()
    store._closed = True
    table = store.table
    for file in list(table.open_files):
        table.close_descriptors(file)
    table.index.abort()
    for tier in table.tiers:
        tier.directory.close()
