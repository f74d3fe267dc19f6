"""Copies of what another worker keeps: they leave before all else and push nothing else out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.cache.cached_object import CachedObject
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheFullError
from tests.cache.conftest import BLOCK, content_of, fill, key_of, read_back

SIZE = 4 * BLOCK
OpenStore = Callable[[], BlockStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens a store with room for eight objects, all of which may be used."""
    opened: list[BlockStore] = []

    def open_one() -> BlockStore:
        tier = TierDefinition(str(tmp_path / "tier"), 8 * SIZE + BLOCK, high=1.0, low=0.999)
        opened.append(BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot"))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def put(store: BlockStore, number: int, *, copy: bool, size: int = SIZE) -> CachedObject:
    item = store.create(key_of(number), size)
    item.reserve(0, size, copy)
    item.write(0, content_of(number, size))
    item.commit(0, size)
    return item


def kept(store: BlockStore, numbers: range) -> set[int]:
    found = {number: store.peek(key_of(number)) for number in numbers}
    return {number for number, item in found.items() if item is not None and item.complete}


def test_a_copy_used_just_now_leaves_before_an_object_used_long_ago(open_store: OpenStore) -> None:
    store = open_store()
    for number in range(8):
        put(store, number, copy=number in (2, 5))
    for number in (2, 5, 2):
        assert store.get(key_of(number)) is not None
    put(store, 8, copy=False)
    assert kept(store, range(9)) == {0, 1, 2, 3, 4, 6, 7, 8}
    put(store, 9, copy=False)
    put(store, 10, copy=False)
    assert kept(store, range(11)) == {1, 3, 4, 6, 7, 8, 9, 10}


def test_a_copy_pushes_out_copies_only(open_store: OpenStore) -> None:
    store = open_store()
    for number in range(7):
        put(store, number, copy=False)
    put(store, 7, copy=True)
    put(store, 8, copy=True)
    assert kept(store, range(9)) == {*range(7), 8}
    assert store.evict(key_of(8))
    put(store, 7, copy=False)
    with pytest.raises(CacheFullError):
        put(store, 9, copy=True)
    with pytest.raises(CacheFullError):
        store.whole.reserve(key_of(9), SIZE, copy=True)
    assert kept(store, range(10)) == set(range(8))


def test_what_is_a_copy_is_known_after_a_restart(open_store: OpenStore) -> None:
    store = open_store()
    for number in range(6):
        put(store, number, copy=number == 3)
    place = store.whole.reserve(key_of(6), SIZE, copy=True)
    store.whole.keep(place, content_of(6, SIZE))
    newest = max(status.last_use for status in store.objects())
    store.close()
    again = open_store()
    again.touch([key_of(6), key_of(3)])
    put(again, 7, copy=False)
    put(again, 8, copy=False)
    assert kept(again, range(9)) == {0, 1, 2, 3, 4, 5, 7, 8}
    put(again, 9, copy=False)
    assert kept(again, range(10)) == {0, 1, 2, 4, 5, 7, 8, 9}
    assert min(status.last_use for status in again.objects()) > newest - 60


def test_bytes_that_are_kept_for_others_make_a_copy_more_than_that(open_store: OpenStore) -> None:
    store = open_store()
    item = store.create(key_of(0), SIZE)
    item.reserve(0, BLOCK, copy=True)
    item.write(0, content_of(0, SIZE)[:BLOCK])
    item.commit(0, BLOCK)
    fill(item, content_of(0, SIZE))
    for number in range(1, 8):
        put(store, number, copy=False)
    with pytest.raises(CacheFullError):
        put(store, 8, copy=True)
    assert read_back(item) == content_of(0, SIZE)


def test_a_change_of_owners_makes_copies_and_ends_them(open_store: OpenStore) -> None:
    store = open_store()
    items = [put(store, number, copy=number < 4) for number in range(8)]
    for item in items[:2]:
        item.keep_as(0, SIZE, copy=False)
    items[7].keep_as(0, SIZE, copy=True)
    del items, item
    for number in range(8, 11):
        put(store, number, copy=False)
    assert kept(store, range(11)) == {0, 1, 4, 5, 6, 8, 9, 10}
