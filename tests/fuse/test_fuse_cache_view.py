"""Cache files that a mount opens by itself, and what it remembers of where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast

import pytest

from fluidpy.cache.cached_files import CachedFiles
from fluidpy.cache.store import BlockStore
from fluidpy.fuse import cache_view
from fluidpy.fuse.cache_view import CacheView
from fluidpy.namespace.cache_keys import CacheKeys
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.namespace.object_keys import KeySource
from fluidpy.storage.under_storage import Kind
from tests.cache.conftest import BLOCK, OpenStore, content_of, open_store

__all__ = ["open_store"]

SIZE = 2 * BLOCK + 7
SOURCE = KeySource("tag", "/", "source", b"somebody")


class Catalog:
    """One folder of one mount, whose tag may change."""

    state = b"1"
    tag = SOURCE.tag

    def mark(self) -> bytes:
        return self.state

    def mount_tag(self, _mount: int) -> str:
        return self.tag

    def path_of(self, _row: int) -> bytes:
        return b""


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def store(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> BlockStore:
    monkeypatch.setattr("fluidpy.cache.cached_files.boot_id", lambda: "boot")
    opened = open_store()
    for row in (5, 6):
        keep(opened, row)
    return opened


@pytest.fixture
def view(catalog: Catalog, store: BlockStore) -> Iterator[CacheView]:
    made = CacheView(cast("CatalogReader", catalog))
    made.follow({"index": str(store.index_path), "sources": [SOURCE.to_wire()]})
    yield made
    made.close()


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Keys that the index was asked for."""
    asked: list[bytes] = []
    find = CachedFiles.find

    def counted(files: CachedFiles, key: bytes, size: int) -> object:
        asked.append(key)
        return find(files, key, size)

    monkeypatch.setattr(CachedFiles, "find", counted)
    return asked


def entry(row: int) -> Entry:
    return Entry(row, 1, b"%d" % row, Kind.FILE, SIZE, 0, None, row, b"v", 0, True)


def key_of(row: int) -> bytes:
    return CacheKeys(SOURCE.source_id, SOURCE.identity).key(b"%d" % row, b"v")


def keep(store: BlockStore, row: int) -> None:
    store.whole.keep(store.whole.reserve(key_of(row), SIZE), content_of(row, SIZE))
    store.flush()


def bytes_of(view: CacheView, row: int) -> bytes | None:
    fd = view.open(entry(row))
    if fd is None:
        return None
    with open(fd, "rb") as stream:
        return stream.read()


def test_the_index_is_asked_once_for_a_file(view: CacheView, queries: list[bytes]) -> None:
    for _ in range(3):
        assert bytes_of(view, 5) == content_of(5, SIZE)
    assert queries == [key_of(5)]


def test_a_file_that_left_is_asked_of_the_worker_until_it_is_back(
    view: CacheView, store: BlockStore
) -> None:
    assert bytes_of(view, 5) == content_of(5, SIZE)
    store.evict(key_of(5))
    store.flush()
    assert view.open(entry(5)) is None
    keep(store, 5)
    assert bytes_of(view, 5) == content_of(5, SIZE)


def test_a_file_that_somebody_changed_is_not_opened(view: CacheView, store: BlockStore) -> None:
    assert bytes_of(view, 5) == content_of(5, SIZE)
    found = store.peek(key_of(5))
    assert found is not None
    with open(found.path, "r+b") as stream:
        stream.write(b"x")
    os.utime(found.path, ns=(0, 0))
    assert view.open(entry(5)) is None


@pytest.mark.parametrize("state", [b"2", b""])
def test_another_source_under_the_same_row_has_other_bytes(
    view: CacheView, catalog: Catalog, state: bytes
) -> None:
    assert bytes_of(view, 5) == content_of(5, SIZE)
    catalog.state, catalog.tag = state, "another"
    assert view.open(entry(5)) is None


def test_so_many_places_are_remembered_and_no_more(
    view: CacheView, queries: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_view, "MOST_PLACES", 1)
    for row in (5, 6, 6, 5):
        assert bytes_of(view, row) == content_of(row, SIZE)
    assert queries == [key_of(5), key_of(6), key_of(5)]
