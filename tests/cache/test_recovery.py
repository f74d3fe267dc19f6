"""What a store makes of files and indexes that are not as it left them: right bytes or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidpy.cache.cached_object import CachedObject
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheError
from tests.cache.conftest import (
    BLOCK,
    OpenStore,
    add,
    content_of,
    crash,
    fill,
    is_complete,
    key_of,
    on_disk,
    read_back,
    reconcile,
    used,
)

SIZE = 5 * BLOCK + 17


def alter(path: str) -> None:
    with open(path, "r+b") as stream:
        stream.seek(BLOCK + 5)
        stream.write(b"altered")


def alter_keeping_times(path: str) -> None:
    facts = os.stat(path)
    alter(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def cut(path: str) -> None:
    os.truncate(path, 2 * BLOCK)


def grow(path: str) -> None:
    os.truncate(path, 9 * BLOCK)


def replace_by_link(path: str) -> None:
    other = path + ".moved"
    os.rename(path, other)
    os.symlink(other, path)


def replace_by_other(path: str) -> None:
    shutil.copy(path, path + ".copy")
    alter(path + ".copy")
    os.rename(path + ".copy", path)


DAMAGES = [alter, alter_keeping_times, cut, grow, os.unlink, replace_by_link, replace_by_other]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("when", ["closed", "open", "descriptor open"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_file_is_noticed_and_fetched_again(
    open_store: OpenStore,
    damage: Callable[[str], None],
    when: str,
    whole: bool,
    tmp_path: Path,
) -> None:
    store = open_store()
    content = content_of(1, SIZE)
    item = store.create(key_of(1), SIZE)
    fill(item, content, 0, SIZE if whole else 3 * BLOCK)
    if when == "descriptor open":
        item.fd_for(0)
    path = item.path
    if when == "closed":
        store.close()
    damage(path)
    if when == "closed":
        store = open_store()
    found = store.get(key_of(1))
    assert found is None or not found.complete
    item = found or store.create(key_of(1), SIZE)
    fill(item, content)
    assert item.complete
    assert read_back(item) == content
    if damage is not replace_by_link:
        assert used(store) == on_disk(tmp_path / "tier0") == 6 * BLOCK


def test_a_file_only_touched_is_verified_and_kept(open_store: OpenStore) -> None:
    store = open_store()
    item = add(store, 1, SIZE)
    serial = item.file_serial(0)
    os.utime(item.path)
    assert store.get(key_of(1)) is item
    assert item.suspect
    assert not is_complete(item)
    assert item.verify(0, SIZE)
    assert item.complete
    assert item.file_serial(0) == serial


def test_damage_while_filling_never_becomes_readable(open_store: OpenStore) -> None:
    store = open_store()
    content = content_of(1, SIZE)
    item = store.create(key_of(1), SIZE)
    fill(item, content, 0, 2 * BLOCK)
    item.reserve(2 * BLOCK, 4 * BLOCK)
    alter(item.path)
    item.write(2 * BLOCK, content[2 * BLOCK : 4 * BLOCK])
    item.commit(2 * BLOCK, 4 * BLOCK)
    fill(item, content)
    assert read_back(item) == content


def test_a_file_removed_between_write_and_commit_is_not_committed(open_store: OpenStore) -> None:
    store = open_store()
    content = content_of(1, SIZE)
    item = store.create(key_of(1), SIZE)
    fill(item, content, 0, BLOCK)
    item.reserve(BLOCK, 3 * BLOCK)
    item.write(BLOCK, content[BLOCK : 2 * BLOCK])
    os.unlink(item.path)
    store.get(key_of(1))
    item.write(2 * BLOCK, content[2 * BLOCK : 3 * BLOCK])
    with pytest.raises(CacheError, match="replaced"):
        item.commit(BLOCK, 3 * BLOCK)
    fill(item, content)
    assert read_back(item) == content


@pytest.mark.parametrize("token", ["boot", "another boot"])
@pytest.mark.parametrize("clean", [True, False])
def test_what_was_flushed_is_there_after_any_stop(
    open_store: OpenStore, token: str, clean: bool, tmp_path: Path
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    partial = store.create(key_of(2), SIZE)
    fill(partial, content_of(2, SIZE), BLOCK, 3 * BLOCK)
    store.flush()
    if clean:
        store.close()
    else:
        crash(store)
    store = open_store(token=token)
    item, partial = store.get(key_of(1)), store.get(key_of(2))  # type: ignore[assignment]
    assert item is not None
    assert item.suspect == (token != "boot")
    assert item.missing(0, SIZE) == []
    assert item.complete
    assert read_back(item) == content_of(1, SIZE)
    assert partial.missing(0, SIZE) == [(0, BLOCK), (3 * BLOCK, SIZE)]
    reconcile(store)
    assert used(store) == on_disk(tmp_path / "tier0") == 8 * BLOCK


def test_blocks_lost_in_a_power_cut_are_not_served(open_store: OpenStore) -> None:
    store = open_store()
    path = add(store, 1, SIZE).path
    store.flush()
    crash(store)
    facts = os.stat(path)
    with open(path, "r+b") as stream:
        stream.write(bytes(BLOCK))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    item = open_store(token="another boot").get(key_of(1))
    assert item is not None
    assert not item.complete
    assert item.missing(0, BLOCK) == [(0, BLOCK)]
    fill(item, content_of(1, SIZE))
    assert read_back(item) == content_of(1, SIZE)


def test_what_was_not_flushed_is_an_orphan_and_leaves(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    add(store, 2, SIZE)
    crash(store)
    store = open_store()
    assert store.get(key_of(2)) is None
    assert reconcile(store) == 1
    assert used(store) == on_disk(tmp_path / "tier0") == 6 * BLOCK


def test_a_key_evicted_and_filled_again_before_a_crash_is_not_mistaken(
    open_store: OpenStore,
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    store.evict(key_of(1))
    item = store.create(key_of(1), SIZE)
    item.reserve(0, SIZE)
    item.write(0, content_of(1, SIZE)[:BLOCK])
    crash(store)
    assert open_store().get(key_of(1)) is None


def _garbage(index: Path) -> None:
    index.write_bytes(b"not a database at all" * 500)


def _cut_index(index: Path) -> None:
    os.truncate(index, 5000)


def _link(index: Path) -> None:
    index.rename(index.with_name("elsewhere"))
    index.symlink_to("elsewhere")


def _no_text(index: Path) -> None:
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute("INSERT INTO meta VALUES(CAST(x'ff' AS TEXT), 1)")


@pytest.mark.parametrize("loss", [Path.unlink, _garbage, _cut_index, _link, _no_text])
def test_a_lost_index_means_an_empty_cache(
    open_store: OpenStore, loss: Callable[[Path], None], tmp_path: Path
) -> None:
    store = open_store()
    for number in range(5):
        add(store, number, SIZE)
    store.close()
    loss(tmp_path / "tier0" / "index.sqlite")
    store = open_store()
    assert used(store) == 0
    assert store.get(key_of(1)) is None
    assert read_back(add(store, 1, SIZE)) == content_of(1, SIZE)
    assert reconcile(store) == 4
    assert on_disk(tmp_path / "tier0") == used(store) == 6 * BLOCK


def test_other_blocks_mean_an_empty_cache(open_store: OpenStore) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.close()
    assert open_store(block=2 * BLOCK).get(key_of(1)) is None


def test_rows_of_a_tier_that_is_gone_are_forgotten(open_store: OpenStore) -> None:
    store = open_store(20 * BLOCK, 200 * BLOCK)
    for number in range(19):
        add(store, number, BLOCK)
    store._demotion.lower(store.table.tiers[0])
    store.close()
    store = open_store(20 * BLOCK)
    assert store.get(key_of(0)) is None
    assert store.get(key_of(18)) is not None


def test_files_removed_while_stopped_leave_the_account(open_store: OpenStore) -> None:
    store = open_store()
    paths = [add(store, number, SIZE).path for number in range(5)]
    store.close()
    for path in paths[:3]:
        os.unlink(path)
    store = open_store()
    reconcile(store)
    assert used(store) == 2 * 6 * BLOCK


def _flip(item: CachedObject) -> None:
    alter(item.path)
    # A flip of the medium changes no time; the store is told that all is as it was.
    item.files()[0].stamp = None


def test_the_scrubber_finds_flips_within_its_budget(open_store: OpenStore) -> None:
    store = open_store(1 << 20)
    items = {item.key: item for item in (add(store, number, SIZE) for number in range(6))}
    _flip(items[key_of(3)])
    found: list[bytes] = []
    files = runs = 0
    while True:
        report = store.scrub(2 * SIZE)
        assert report.read_bytes <= 2 * SIZE
        found += report.damaged
        files += report.files
        runs += 1
        if report.finished:
            break
    assert found == [key_of(3)]
    assert files == 6
    assert runs == 4
    assert store.get(key_of(3)) is None


def test_an_evicted_damaged_object_keeps_old_readers_bytes(open_store: OpenStore) -> None:
    store = open_store()
    item = add(store, 1, SIZE)
    item.acquire()
    fd, _, _ = item.fd_for(0)
    alter(item.path)
    assert item.missing(0, SIZE) == [(0, SIZE)]
    assert store.usage()[0].unlinked == 6 * BLOCK
    assert os.fstat(fd).st_nlink == 0
    item.release()
    assert used(store) == 0


def test_what_a_crash_left_unindexed_in_a_partial_file_is_counted(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = open_store()
    content = content_of(1, SIZE)
    item = store.create(key_of(1), SIZE)
    fill(item, content, 0, BLOCK)
    store.flush()
    fill(item, content, BLOCK, 4 * BLOCK)
    crash(store)
    store = open_store()
    assert used(store) == BLOCK
    reconcile(store)
    assert used(store) == on_disk(tmp_path / "tier0") == 4 * BLOCK
    again = store.get(key_of(1))
    assert again is not None
    assert again.missing(0, SIZE) == [(BLOCK, SIZE)]
    fill(again, content)
    assert used(store) == on_disk(tmp_path / "tier0") == 6 * BLOCK


def test_a_file_found_damaged_during_a_write_does_not_get_the_block(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    content = content_of(1, SIZE)
    item = store.create(key_of(1), SIZE)
    fill(item, content, 0, 2 * BLOCK)
    alter(item.path)
    assert store.get(key_of(1)) is item
    item.reserve(2 * BLOCK, 3 * BLOCK)
    real = os.pwrite

    def verifying(fd: int, data: memoryview, offset: int) -> int:
        assert not item.verify(0, 2 * BLOCK)
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", verifying)
        with pytest.raises(CacheError, match="replaced"):
            item.write(2 * BLOCK, content[2 * BLOCK : 3 * BLOCK])
    with pytest.raises(CacheError, match="replaced"):
        item.commit(2 * BLOCK, 3 * BLOCK)
    assert item.missing(0, SIZE) == [(0, SIZE)]
    fill(item, content)
    assert read_back(item) == content
    assert used(store) == 6 * BLOCK


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs root")
def test_a_start_on_a_full_disk_loses_nothing_of_the_cache(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", small], check=True)
    tier = TierDefinition(str(small / "tier"), 2 << 20)
    try:
        with BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot") as store:
            for number in range(20):
                add(store, number, BLOCK)
        with contextlib.suppress(OSError), open(small / "full", "wb", buffering=0) as full:
            while True:
                full.write(bytes(4096))
        with pytest.raises(CacheError, match="cannot be opened"):
            BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot")
        (small / "full").unlink()
        with BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot") as store:
            for number in range(20):
                item = store.get(key_of(number))
                assert item is not None
                assert read_back(item) == content_of(number, BLOCK)
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_an_index_that_was_emptied_while_a_reader_has_it_open_is_made_anew(tmp_path: Path) -> None:
    tier = TierDefinition(str(tmp_path / "tier"), 2 << 20)
    with BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot") as store:
        add(store, 1, BLOCK)
    (index,) = tmp_path.rglob("index.sqlite")
    with contextlib.closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as reader:
        assert reader.execute("SELECT count(*) FROM file").fetchone() == (1,)
        os.truncate(index, 0)
        with BlockStore.open([tier], block_bytes=BLOCK, clean_token="boot") as store:
            assert store.get(key_of(1)) is None
            add(store, 2, BLOCK)
            item = store.get(key_of(2))
            assert item is not None
            assert read_back(item) == content_of(2, BLOCK)
