"""Small objects read out of their files for a batch: right bytes, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from fluidpy.cache.index import Index
from fluidpy.cache.sealed_range import seal_complete
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.cache.whole_reads import describe, read_whole
from fluidpy.cluster.peer_protocol import PeerRequest
from fluidpy.errors import CacheError
from tests.cluster_network.bed import BLOCK, Bed

SMALL_BLOCK = 4096
SIZE = 2 * SMALL_BLOCK + 100
KEYS = [bytes([number]) * 16 for number in range(150)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def open_store(directory: Path) -> BlockStore:
    tier = TierDefinition(str(directory), 1 << 30)
    return BlockStore.open([tier], block_bytes=SMALL_BLOCK, clean_token="boot")


def fill(store: BlockStore, key: bytes, blocks: int = 3) -> bytes:
    data = os.urandom(SIZE)
    cached = store.create(key, SIZE)
    end = min(blocks * SMALL_BLOCK, SIZE)
    cached.reserve(0, end)
    cached.write(0, memoryview(data)[:end])
    cached.commit(0, end)
    return data


def contents(store: BlockStore, wanted: list[tuple[bytes, int]]) -> list[bytes | None]:
    """The bytes of each object, which have their sums."""
    found: list[bytes | None] = []
    for file in describe(store.table, wanted):
        buffer = bytearray(SIZE)
        if file is None or not read_whole(file, memoryview(buffer)):
            found.append(None)
            continue
        blocks = [buffer[at : at + SMALL_BLOCK] for at in range(0, SIZE, SMALL_BLOCK)]
        assert [crc32c(block) for block in blocks] == list(file.sums)
        found.append(bytes(buffer))
    return found


def test_objects_in_memory_and_in_the_index_are_read_together(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    data = {key: fill(first, key) for key in KEYS[:140]}
    first.close()
    again = open_store(tmp_path)
    for key in KEYS[:20]:
        again.get(key)
    data |= {key: fill(again, key) for key in KEYS[140:]}
    wanted = [(key, SIZE) for key in (*KEYS, KEYS[0], b"?!" * 8)]
    assert contents(again, wanted) == [*(data[key] for key in KEYS), data[KEYS[0]], None]
    again.close()


def test_reading_counts_as_a_use(store: BlockStore) -> None:
    for key in KEYS[:2]:
        fill(store, key)
    contents(store, [(KEYS[0], SIZE)])
    assert [file.file.key for file in store.table.oldest(1, 2, False)] == [KEYS[1], KEYS[0]]


def test_what_is_not_all_there_is_not_read(store: BlockStore) -> None:
    fill(store, KEYS[0], blocks=2)
    fill(store, KEYS[1])
    assert contents(store, [(KEYS[0], SIZE), (KEYS[1], SIZE + 1)]) == [None, None]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("harm", ["altered", "cut", "removed", "replaced"])
def test_a_file_that_looks_otherwise_is_not_read(
    tmp_path: Path, harm: str, in_memory: bool
) -> None:
    store = open_store(tmp_path)
    data = fill(store, KEYS[0])
    store.close()
    store = open_store(tmp_path)
    held = store.get(KEYS[0]) if in_memory else None
    name = KEYS[0].hex()
    file = tmp_path / "objects" / name[:2] / name
    if harm == "altered":
        with file.open("r+b") as stream:
            stream.write(b"!")
    elif harm == "cut":
        os.truncate(file, 10)
    elif harm == "removed":
        file.unlink()
    else:
        copy = file.with_suffix(".copy")
        copy.write_bytes(data)
        copy.rename(file)
    before = os.listdir("/proc/self/fd")
    assert contents(store, [(KEYS[0], SIZE)]) == [None]
    assert os.listdir("/proc/self/fd") == before
    del held
    store.close()


async def test_a_batch_of_cached_and_other_objects_brings_the_bytes_of_each(bed: Bed) -> None:
    sizes = [0, 1, 5 * BLOCK, 300_000, 1 << 20, 70_000, 3, 0, 900_000, 100]
    contents = [os.urandom(size) for size in sizes * 3]
    requests = [await bed.put(f"f/{n}", data) for n, data in enumerate(contents)]
    for number in (1, 3, 4, 5, 14, 20, 28):
        await read_each(bed, [requests[number]])
    half = len(requests) // 2
    for part in (slice(0, half), slice(half, None), slice(0, half)):
        assert await read_each(bed, requests[part]) == contents[part]


async def test_a_batch_fetches_anew_what_somebody_altered_in_the_cache(bed: Bed) -> None:
    contents = [os.urandom(3000) for _ in range(5)]
    requests = [await bed.put(f"f/{n}", data) for n, data in enumerate(contents)]
    await read_each(bed, requests)
    for file in bed.settings.cache_dir.glob("**/objects/*/*"):
        with file.open("r+b") as stream:
            stream.write(b"!!!")
    assert await read_each(bed, requests) == contents


async def read_each(bed: Bed, requests: list[PeerRequest]) -> list[bytes]:
    """The objects of one batch, none of which fails."""
    taken: dict[int, bytes] = {}

    def take(number: int, data: memoryview) -> None:
        taken[number] = bytes(data)

    outcome = await bed.client.read_batch(bed.member, requests, take, seconds=60)
    assert outcome == [None] * len(requests)
    return [taken[number] for number in range(len(requests))]


def full_disk(*_: object) -> None:
    raise CacheError("database or disk is full", cure="Free some space.")


def test_times_of_use_that_cannot_be_written_keep_nobody_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_store(tmp_path)
    data = {key: fill(first, key) for key in KEYS[:20]}
    first.close()
    again = open_store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Index, "apply_touches", full_disk)
        patch.setattr("fluidpy.cache.index.MANY_TOUCHES", 3)
        assert contents(again, [(key, SIZE) for key in data]) == list(data.values())
        sealed = seal_complete(again.table, KEYS[0], SIZE)
        assert sealed is not None
        sealed.close()
    assert again.table.index.queued_touches == 20
    again.close()


async def test_a_batch_comes_whole_when_the_index_cannot_be_asked_for_many(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [os.urandom(3000 + number) for number in range(5)]
    requests = [await bed.put(f"f/{n}", data) for n, data in enumerate(contents)]
    await read_each(bed, requests)
    monkeypatch.setattr("fluidpy.worker.ready_frames.describe", full_disk)
    assert await read_each(bed, requests) == contents
