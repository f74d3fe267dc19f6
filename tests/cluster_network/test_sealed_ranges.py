"""Ranges held for sending: right whoever changes the file, seen through by nobody's memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from fluidpy.cache.sealed_range import SealedRange, seal, seal_complete
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition

BLOCK = 4096
KEY = b"k" * 16
SIZE = 3 * BLOCK + 100


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    opened = BlockStore.open(
        [TierDefinition(str(tmp_path), 1 << 30)], block_bytes=BLOCK, clean_token="boot"
    )
    yield opened
    opened.close()


def fill(store: BlockStore, blocks: int = 4) -> bytes:
    data = os.urandom(SIZE)
    cached = store.create(KEY, SIZE)
    end = min(blocks * BLOCK, SIZE)
    cached.reserve(0, end)
    cached.write(0, memoryview(data)[:end])
    cached.commit(0, end)
    return data


def reopened(store: BlockStore, directory: Path) -> BlockStore:
    store.close()
    return BlockStore.open(
        [TierDefinition(str(directory), 1 << 30)], block_bytes=BLOCK, clean_token="boot"
    )


def content(sealed: SealedRange) -> bytes:
    """The bytes, which have their sums."""
    data = b"".join(os.pread(span.fd, span.length, span.offset) for span in sealed.spans)
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    assert [crc32c(block) for block in blocks] == list(sealed.sums)
    return data


def test_a_range_has_its_bytes_and_sums(store: BlockStore) -> None:
    data = fill(store)
    cached = store.get(KEY)
    assert cached is not None
    for start, end in ((0, SIZE), (BLOCK, 3 * BLOCK), (3 * BLOCK, SIZE)):
        sealed = seal(cached, start, end)
        assert sealed is not None
        assert content(sealed) == data[start:end]
        sealed.close()
        sealed.close()


def test_what_is_not_all_there_is_not_sealed(store: BlockStore) -> None:
    data = fill(store, blocks=2)
    cached = store.get(KEY)
    assert cached is not None
    assert seal(cached, 0, SIZE) is None
    assert seal_complete(store.table, KEY, SIZE) is None
    sealed = seal(cached, 0, 2 * BLOCK)
    assert sealed is not None
    assert content(sealed) == data[: 2 * BLOCK]
    sealed.close()


def test_bytes_being_sent_are_not_evicted(store: BlockStore) -> None:
    data = fill(store)
    sealed = seal_complete(store.table, KEY, SIZE)
    assert sealed is not None
    store.evict(KEY)
    assert content(sealed) == data
    assert store.usage()[0].used > 0
    sealed.close()
    store.evict(KEY)
    assert store.usage()[0].used == 0


@pytest.mark.parametrize("harm", ["none", "altered", "cut", "removed", "replaced", "other size"])
def test_an_object_not_in_memory_is_sealed_if_it_looks_right(
    store: BlockStore, tmp_path: Path, harm: str
) -> None:
    data = fill(store)
    again = reopened(store, tmp_path)
    name = KEY.hex()
    file = tmp_path / "objects" / name[:2] / name
    if harm == "altered":
        with file.open("r+b") as stream:
            stream.write(b"!")
    elif harm == "cut":
        os.truncate(file, 10)
    elif harm == "removed":
        file.unlink()
    elif harm == "replaced":
        copy = file.with_suffix(".copy")
        copy.write_bytes(data)
        copy.rename(file)
    before = os.listdir("/proc/self/fd")
    sealed = seal_complete(again.table, KEY, SIZE + (harm == "other size"))
    assert (sealed is not None) == (harm == "none")
    if sealed is not None:
        again.evict(KEY)
        assert content(sealed) == data
        sealed.close()
        assert seal_complete(again.table, KEY, SIZE) is None
    if harm == "none":
        assert len(os.listdir("/proc/self/fd")) <= len(before)
    again.close()


def test_after_an_unclean_stop_nothing_is_sealed_unverified(
    store: BlockStore, tmp_path: Path
) -> None:
    fill(store)
    store.close()
    again = BlockStore.open(
        [TierDefinition(str(tmp_path), 1 << 30)], block_bytes=BLOCK, clean_token="another boot"
    )
    assert seal_complete(again.table, KEY, SIZE) is None
    again.close()


def test_being_sealed_is_a_use(store: BlockStore, tmp_path: Path) -> None:
    fill(store)
    again = reopened(store, tmp_path)
    before = next(again.objects()).last_use
    sealed = seal_complete(again.table, KEY, SIZE)
    assert sealed is not None
    sealed.close()
    assert next(again.objects()).last_use > before
    again.close()
