"""Objects that come whole: the same to everybody as those that came block by block."""

from __future__ import annotations

import errno
import os

import pytest

from fluidpy.cache import whole_files
from fluidpy.cache.store import BlockStore
from fluidpy.errors import CacheFullError
from tests.cache.conftest import (
    BLOCK,
    OpenStore,
    add,
    content_of,
    fill,
    key_of,
    read_back,
    reconcile,
    used,
)

SIZE = 2 * BLOCK + 100


def keep(store: BlockStore, number: int, size: int = SIZE) -> None:
    place = store.whole.reserve(key_of(number), size)
    store.whole.keep(place, content_of(number, size))


@pytest.mark.parametrize("flushed", [False, True])
def test_what_was_kept_whole_is_found_complete(open_store: OpenStore, flushed: bool) -> None:
    store = open_store()
    keep(store, 1)
    assert store.dirty == 1
    if flushed:
        store.flush()
        assert store.dirty == 0
    found = store.get(key_of(1))
    assert found is not None
    assert found.complete
    assert not found.suspect
    assert read_back(found) == content_of(1, SIZE)
    assert used(store) == 3 * BLOCK
    store.flush()
    assert reconcile(store) == 0
    assert [(status.key, status.complete) for status in store.objects()] == [(key_of(1), True)]


def test_it_is_there_after_a_restart_and_leaves_as_others_do(open_store: OpenStore) -> None:
    store = open_store()
    keep(store, 1)
    store.close()
    again = open_store()
    found = again.get(key_of(1))
    assert found is not None
    assert found.complete
    assert again.evict(key_of(1)) == 3 * BLOCK
    keep(again, 1)
    assert again.evict(key_of(1)) == 3 * BLOCK
    assert used(again) == 0
    assert again.get(key_of(1)) is None


def test_room_is_reserved_before_the_bytes_come(open_store: OpenStore) -> None:
    store = open_store()
    place = store.whole.reserve(key_of(1), SIZE)
    assert store.usage()[0].reserved == used(store) == 3 * BLOCK
    store.whole.give_back(place)
    assert used(store) == 0


def test_only_what_nothing_is_known_of_is_absent(open_store: OpenStore) -> None:
    store = open_store()
    add(store, 1, BLOCK)
    store.flush()
    store.create(key_of(2), BLOCK)
    keep(store, 3)
    keys = [key_of(number) for number in range(1, 5)]
    held = store.create(key_of(2), BLOCK)
    assert store.whole.absent(keys) == {key_of(4)}
    assert held.present_bytes == 0


@pytest.mark.parametrize("partly", [False, True])
def test_one_who_opened_the_object_meanwhile_reads_it(open_store: OpenStore, partly: bool) -> None:
    store = open_store()
    place = store.whole.reserve(key_of(1), SIZE)
    opened = store.create(key_of(1), SIZE)
    opened.acquire()
    fd, _, _ = opened.fd_for(0)
    if partly:
        fill(opened, content_of(1, SIZE), BLOCK, 2 * BLOCK)
    store.whole.keep(place, content_of(1, SIZE))
    assert opened.complete
    assert os.pread(fd, SIZE, 0) == content_of(1, SIZE)
    assert used(store) == 3 * BLOCK
    opened.release()


def test_a_full_disk_keeps_nothing(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_files, "write_all", no_space)
    with pytest.raises(CacheFullError, match="no space left"):
        keep(store, 1)
    monkeypatch.undo()
    assert used(store) == 0
    assert store.get(key_of(1)) is None
    assert reconcile(store) == 0
    keep(store, 1)
    assert used(store) == 3 * BLOCK


def test_a_file_that_a_crash_left_is_replaced(open_store: OpenStore) -> None:
    store = open_store()
    keep(store, 1)
    found = store.get(key_of(1))
    assert found is not None
    path = found.path
    store.evict(key_of(1))
    store.flush()
    with open(path, "wb") as stream:  # as a crash leaves it
        stream.write(b"left")
    del found
    keep(store, 1)
    again = store.get(key_of(1))
    assert again is not None
    assert read_back(again) == content_of(1, SIZE)
    assert used(store) == 3 * BLOCK


def test_others_leave_for_it(open_store: OpenStore) -> None:
    store = open_store()
    quota = store.usage()[0].quota_bytes
    for number in range(quota // (3 * BLOCK) + 20):
        keep(store, number)
    assert used(store) <= quota
    assert store.get(key_of(0)) is None
    assert store.get(key_of(number)) is not None
