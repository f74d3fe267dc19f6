"""A store as its owner uses it: fill, read, pin, evict, list, reopen."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import SupportsIndex

import pytest

from fluidpy.cache import demotion
from fluidpy.cache.cache_file import write_all
from fluidpy.cache.store import BlockStore
from fluidpy.errors import CacheError, CacheFullError
from tests.cache.conftest import (
    BLOCK,
    OpenStore,
    add,
    content_of,
    fill,
    is_complete,
    key_of,
    on_disk,
    read_back,
    reconcile,
    used,
)


def test_an_object_is_readable_once_committed(open_store: OpenStore) -> None:
    store = open_store()
    item = store.create(key_of(1), 3 * BLOCK + 100)
    content = content_of(1, item.size)
    assert store.get(key_of(1)) is None
    assert item.missing(0, item.size) == [(0, item.size)]
    fill(item, content, BLOCK, BLOCK + 1)
    assert not is_complete(item)
    assert item.missing(0, item.size) == [(0, BLOCK), (2 * BLOCK, item.size)]
    fill(item, content)
    assert item.complete
    assert read_back(item) == content
    assert store.get(key_of(1)) is item
    assert used(store) == 4 * BLOCK


def test_a_peek_sees_what_is_cached_and_is_no_use(open_store: OpenStore) -> None:
    store = open_store()
    assert store.peek(key_of(1)) is None
    add(store, 1, BLOCK)
    add(store, 2, BLOCK)
    store.flush()
    before = {status.key: status.last_use for status in store.objects()}
    found = store.peek(key_of(1))
    assert found is not None
    assert found.complete
    assert {status.key: status.last_use for status in store.objects()} == before


def test_a_written_block_is_missing_until_committed(open_store: OpenStore) -> None:
    item = open_store().create(key_of(1), BLOCK)
    item.reserve(0, BLOCK)
    item.write(0, content_of(1, BLOCK))
    assert item.missing(0, BLOCK) == [(0, BLOCK)]
    item.commit(0, BLOCK)
    assert item.missing(0, BLOCK) == []


def test_an_empty_object_is_complete_at_once(open_store: OpenStore) -> None:
    store = open_store()
    item = store.create(key_of(1), 0)
    assert item.complete
    fd, offset, length = item.fd_for(0)
    assert (os.fstat(fd).st_size, offset, length) == (0, 0, 0)
    store.close()
    again = open_store().get(key_of(1))
    assert again is not None
    assert again.complete


def test_files_and_directories_are_private_and_descriptors_read_only(
    open_store: OpenStore, tmp_path: Path
) -> None:
    item = add(open_store(), 1, BLOCK)
    assert stat.S_IMODE(os.stat(item.path).st_mode) == 0o600
    for directory in ("tier0", "tier0/objects", os.path.dirname(item.path)):
        assert stat.S_IMODE(os.stat(tmp_path / directory).st_mode) == 0o700
    fd, _, _ = item.fd_for(0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)


def test_wrong_ranges_are_refused(open_store: OpenStore) -> None:
    item = open_store().create(key_of(1), 2 * BLOCK)
    with pytest.raises(ValueError, match="not within"):
        item.missing(0, 3 * BLOCK)
    with pytest.raises(ValueError, match="whole blocks"):
        item.write(1, bytes(BLOCK))
    with pytest.raises(CacheError, match="without a reservation"):
        item.write(0, bytes(BLOCK))


def test_commit_of_an_unwritten_block_is_an_error_and_frees_it(open_store: OpenStore) -> None:
    store = open_store()
    item = store.create(key_of(1), 2 * BLOCK)
    item.reserve(0, 2 * BLOCK)
    item.write(0, content_of(1, BLOCK))
    with pytest.raises(CacheError, match="Fetch the range again"):
        item.commit(0, 2 * BLOCK)
    assert item.missing(0, 2 * BLOCK) == [(BLOCK, 2 * BLOCK)]
    assert used(store) == BLOCK


def test_abandoned_room_returns(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store()
    item = store.create(key_of(1), 4 * BLOCK)
    item.reserve(0, 4 * BLOCK)
    assert used(store) == 4 * BLOCK
    item.write(0, content_of(1, 2 * BLOCK))
    item.commit(0, BLOCK)
    item.abandon(0, 4 * BLOCK)
    assert used(store) == on_disk(tmp_path / "tier0") == 2 * BLOCK
    fill(item, content_of(1, 4 * BLOCK)[: 2 * BLOCK] + content_of(1, 4 * BLOCK)[2 * BLOCK :])
    assert used(store) == on_disk(tmp_path / "tier0") == 4 * BLOCK
    other = store.create(key_of(2), BLOCK)
    other.reserve(0, BLOCK)
    other.write(0, content_of(2, BLOCK))
    other.abandon(0, BLOCK)
    assert used(store) == on_disk(tmp_path / "tier0") == 4 * BLOCK


def test_least_recently_used_leave_first_down_to_the_low_mark(open_store: OpenStore) -> None:
    store = open_store(100 * BLOCK)
    gone: list[bytes] = []
    store.on_evict.append(gone.append)
    for number in range(95):
        add(store, number, BLOCK)
    assert not gone
    store.get(key_of(0))
    add(store, 95, BLOCK)
    assert gone
    assert set(gone) == {key_of(n) for n in range(1, 1 + len(gone))}
    assert used(store) == 85 * BLOCK
    assert store.get(key_of(0)) is not None


def test_use_order_survives_a_restart(open_store: OpenStore) -> None:
    store = open_store(100 * BLOCK)
    for number in range(95):
        add(store, number, BLOCK)
    store.get(key_of(0))
    store.close()
    store = open_store(100 * BLOCK)
    add(store, 100, BLOCK)
    assert store.get(key_of(0)) is not None
    assert store.get(key_of(1)) is None


def test_pinned_and_held_objects_stay(open_store: OpenStore) -> None:
    store = open_store(10 * BLOCK)
    pinned, held = add(store, 0, BLOCK), add(store, 1, BLOCK)
    store.pin(pinned.key, True)
    held.acquire()
    for number in range(2, 40):
        add(store, number, BLOCK)
    assert pinned.complete
    assert held.complete
    store.pin(pinned.key, False)
    held.release()
    for number in range(40, 60):
        add(store, number, BLOCK)
    assert store.get(key_of(0)) is None
    assert store.get(key_of(1)) is None


def test_a_pin_outlives_eviction_and_restart(open_store: OpenStore) -> None:
    store = open_store(10 * BLOCK)
    store.pin(key_of(0), True)
    add(store, 0, BLOCK)
    store.evict(key_of(0))
    store.close()
    store = open_store(10 * BLOCK)
    add(store, 0, BLOCK)
    for number in range(1, 40):
        add(store, number, BLOCK)
    assert store.get(key_of(0)) is not None
    assert next(o for o in store.objects() if o.key == key_of(0)).pinned


def test_a_full_cache_says_so_and_keeps_what_is_held(open_store: OpenStore) -> None:
    store = open_store(4 * BLOCK)
    held = [add(store, number, BLOCK) for number in range(3)]
    for item in held:
        item.acquire()
    big = store.create(key_of(9), 2 * BLOCK)
    with pytest.raises(CacheFullError, match=r"nothing more may be evicted.*Raise the quota"):
        big.reserve(0, 2 * BLOCK)
    assert used(store) == 3 * BLOCK
    for item in held:
        item.release()
    big.reserve(0, 2 * BLOCK)
    big.abandon(0, 2 * BLOCK)


def test_evicted_but_held_bytes_count_until_released(open_store: OpenStore) -> None:
    store = open_store()
    item = add(store, 1, 2 * BLOCK)
    item.acquire()
    fd, offset, length = item.fd_for(0)
    serial = item.file_serial(0)
    assert store.evict(item.key) == 2 * BLOCK
    assert store.usage()[0].unlinked == used(store) == 2 * BLOCK
    assert os.pread(fd, length, offset) == content_of(1, 2 * BLOCK)
    assert item.missing(0, item.size) == [(0, item.size)]
    fill(item, content_of(1, 2 * BLOCK))
    assert item.file_serial(0) != serial
    assert used(store) == 4 * BLOCK
    item.release()
    assert used(store) == 2 * BLOCK


def test_large_objects_lie_in_segments_that_leave_one_by_one(open_store: OpenStore) -> None:
    store = open_store(64 * BLOCK)
    size = 40 * BLOCK + 5
    item = store.create(key_of(1), size)
    assert item.segment_bytes == 8 * BLOCK
    fill(item, content_of(1, size))
    assert item.complete
    assert read_back(item) == content_of(1, size)
    _, offset, length = item.fd_for(17 * BLOCK)
    assert (offset, length) == (BLOCK, 7 * BLOCK)
    for number in range(2, 25):
        add(store, number, BLOCK)
    holes = item.missing(0, size)
    assert holes
    assert all(end - start in (8 * BLOCK, 5) or start % (8 * BLOCK) == 0 for start, end in holes)


def test_an_object_larger_than_the_tier_streams_through(open_store: OpenStore) -> None:
    store = open_store(32 * BLOCK)
    size = 100 * BLOCK
    content = content_of(1, size)
    item = store.create(key_of(1), size)
    item.acquire()
    for start in range(0, size, BLOCK):
        fill(item, content, start, start + BLOCK)
        fd, offset, _ = item.fd_for(start)
        assert os.pread(fd, BLOCK, offset) == content[start : start + BLOCK]
        assert used(store) <= 32 * BLOCK
    item.release()


def test_a_complete_file_moves_to_the_next_tier(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store(20 * BLOCK, 200 * BLOCK)
    for number in range(19):
        add(store, number, BLOCK)
    store._demotion.lower(store.table.tiers[0])
    first, second = store.usage()
    assert first.used == 17 * BLOCK
    assert second.used == 2 * BLOCK
    moved = store.get(key_of(0))
    assert moved is not None
    assert moved.path.startswith(str(tmp_path / "tier1"))
    assert read_back(moved) == content_of(0, BLOCK)
    store.close()
    again = open_store(20 * BLOCK, 200 * BLOCK).get(key_of(0))
    assert again is not None
    assert again.complete
    assert read_back(again) == content_of(0, BLOCK)


def test_a_full_first_tier_is_lowered_by_itself(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store(20 * BLOCK, 200 * BLOCK)
    for number in range(60):
        add(store, number, BLOCK)
    store.close()  # waits for the thread
    store = open_store(20 * BLOCK, 200 * BLOCK)
    kept = [store.get(key_of(number)) for number in range(60)]
    assert all(item is not None and item.complete for item in kept)
    assert used(store) == on_disk(tmp_path / "tier0", tmp_path / "tier1") == 60 * BLOCK


def test_a_file_moves_although_the_index_cannot_be_written(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(20 * BLOCK, 200 * BLOCK)
    for number in range(19):
        add(store, number, BLOCK)
    store.flush()

    def refuse(*_: object) -> None:
        raise CacheFullError("the disk of the index is full")

    with monkeypatch.context() as full:
        full.setattr(store.table.index, "apply", refuse)
        store._demotion.lower(store.table.tiers[0])
        first, second = (tier.used for tier in store.usage())
        assert (first, second) == (17 * BLOCK, 2 * BLOCK)
        assert (on_disk(tmp_path / "tier0"), on_disk(tmp_path / "tier1")) == (first, second)
    store.flush()
    store.close()
    store = open_store(20 * BLOCK, 200 * BLOCK)
    for number in range(19):
        item = store.get(key_of(number))
        assert item is not None
        assert read_back(item) == content_of(number, BLOCK)


def test_a_first_tier_is_lowered_again_after_files_were_removed_under_it(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(20 * BLOCK, 200 * BLOCK)
    for number in range(19):
        add(store, number, BLOCK)
    spoilt: list[Path] = []

    def remove_first(fd: int, view: memoryview, offset: int) -> None:
        write_all(fd, view, offset)
        if not spoilt:
            spoilt.extend((tmp_path / "tier1" / "objects").rglob("?" * 32))
            spoilt[0].unlink()
            raise OSError("the copy cannot be written")

    monkeypatch.setattr(demotion, "write_all", remove_first)
    store._demotion.lower(store.table.tiers[0])
    assert spoilt
    assert [tier.reserved for tier in store.usage()] == [0, 0]
    assert store.usage()[0].used <= 17 * BLOCK


def test_two_threads_may_tell_of_the_same_object_that_left(open_store: OpenStore) -> None:
    store = open_store()
    table = store.table

    class ToldByAnother(list[bytes]):
        def pop(self, index: SupportsIndex = -1) -> bytes:
            self.clear()  # another thread was quicker
            return super().pop(index)

    table.gone = ToldByAnother([key_of(1)])
    table.announce()
    assert not table.gone


def test_objects_are_listed_with_what_they_take(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store(64 * BLOCK)
    add(store, 1, 100)
    partial = store.create(key_of(2), 4 * BLOCK)
    fill(partial, content_of(2, 4 * BLOCK), 0, BLOCK)
    add(store, 3, 20 * BLOCK)
    found = {status.key: status for status in store.objects()}
    assert list(found) == sorted(found)
    assert found[key_of(1)][1:4] == (100, BLOCK, True)
    assert found[key_of(2)][1:4] == (4 * BLOCK, BLOCK, False)
    assert found[key_of(3)][1:4] == (20 * BLOCK, 20 * BLOCK, True)
    assert found[key_of(3)].tiers == (str(tmp_path / "tier0"),)


def test_a_large_object_keeps_its_blocks_over_a_restart(open_store: OpenStore) -> None:
    store = open_store(1 << 30)
    size = 700 * BLOCK + 1  # three rows of block checksums
    content = content_of(1, size)
    item = store.create(key_of(1), size)
    ranges = [(0, BLOCK), (255 * BLOCK, 257 * BLOCK), (600 * BLOCK, size)]
    for start, end in ranges:
        fill(item, content, start, end)
        store.flush()
    expected = item.missing(0, size)
    store.close()
    item = open_store(1 << 30).get(key_of(1))  # type: ignore[assignment]
    assert item.missing(0, size) == expected
    fill(item, content)
    assert read_back(item) == content


def test_threads_write_one_object_together(open_store: OpenStore) -> None:
    store = open_store(1 << 30)
    size = 64 * BLOCK
    content = content_of(1, size)
    item = store.create(key_of(1), size)
    item.reserve(0, size)

    def write(first: int) -> None:
        for block in range(first, 64, 8):
            item.write(block * BLOCK, content[block * BLOCK : (block + 1) * BLOCK])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8), timeout=100))
    item.commit(0, size)
    assert read_back(item) == content


def test_threads_filling_many_objects_never_pass_the_quota(open_store: OpenStore) -> None:
    quota = 50 * BLOCK
    store = open_store(quota)

    def work(first: int) -> int:
        highest = 0
        for number in range(first, first + 150):
            item = store.create(key_of(number), 3 * BLOCK)
            item.acquire()
            try:
                fill(item, content_of(number, 3 * BLOCK))
                highest = max(highest, used(store))
                assert read_back(item) == content_of(number, 3 * BLOCK)
            finally:
                item.release()
            if number % 10 == 0:
                store.flush()
        return highest

    with ThreadPoolExecutor(4) as pool:
        highest = max(pool.map(work, range(0, 4000, 1000), timeout=100))
    assert highest <= quota
    assert used(store) <= quota


def test_few_descriptors_serve_many_objects(open_store: OpenStore) -> None:
    store = open_store(1 << 30)
    store.table.open_limit = 8
    for number in range(50):
        add(store, number, 2 * BLOCK)
    for number in range(50):
        item = store.get(key_of(number))
        assert item is not None
        assert read_back(item) == content_of(number, 2 * BLOCK)
    assert len(store.table.open_files) <= 9


def test_reconcile_leaves_a_living_store_alone(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store(1 << 20)
    for number in range(20):
        add(store, number, BLOCK)
    filling = store.create(key_of(50), 2 * BLOCK)
    filling.reserve(0, 2 * BLOCK)
    filling.write(0, content_of(50, BLOCK))
    assert reconcile(store) == 0
    filling.write(BLOCK, content_of(50, 2 * BLOCK)[BLOCK:])
    filling.abandon(0, 2 * BLOCK)
    assert used(store) == on_disk(tmp_path / "tier0") == 20 * BLOCK


def test_an_object_of_another_size_replaces_the_old_one(open_store: OpenStore) -> None:
    store: BlockStore = open_store()
    add(store, 1, BLOCK)
    item = store.create(key_of(1), 2 * BLOCK)
    assert item.missing(0, 2 * BLOCK) == [(0, 2 * BLOCK)]
    item.acquire()
    with pytest.raises(CacheError, match="two sizes for one version"):
        store.create(key_of(1), BLOCK)
    item.release()
