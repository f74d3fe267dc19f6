from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.errors import CacheError
from fluidpy.namespace.catalog import SYNTHETIC_LISTED_AT, CatalogReader
from fluidpy.namespace.catalog_file import first_row_id
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import Kind, MountSource, ObjectInfo
from tests.namespace.catalog_view import check, tree
from tests.namespace.fake_storage import file

SOURCE = MountSource("s3://bucket")
ONE = DatasetDefinition("d", "default", (MountDefinition("m", "/", SOURCE),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalogs" / "default.d.sqlite"


@pytest.fixture
def writer(path: Path) -> Iterator[CatalogWriter]:
    writer = CatalogWriter(path)
    writer.compose(ONE)
    yield writer
    writer.close()


def test_it_is_private_and_has_one_writer(writer: CatalogWriter, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(CacheError, match="in use by another worker"):
        CatalogWriter(path)


def test_a_missing_catalog_is_named(path: Path) -> None:
    with pytest.raises(CacheError, match=r"default\.d\.sqlite cannot be read"):
        CatalogReader(path)


@pytest.mark.parametrize("damage", ["rubbish", "foreign", "older", "page"])
def test_what_cannot_be_used_is_set_aside_and_no_row_id_returns(path: Path, damage: str) -> None:
    writer = CatalogWriter(path, lambda: 1_800_000_000.0)
    writer.compose(ONE)
    added = writer.apply_listing(1, 0, [file(f"f{n:04d}") for n in range(3000)], 5.0, {}).added
    writer.close()
    reader = CatalogReader(path)
    if damage == "rubbish":
        path.write_bytes(b"not a database, rather a text that is long enough" * 100)
    elif damage == "foreign":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE theirs (a)")
        other.close()
    elif damage == "older":
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA user_version=99")
        other.close()
    else:
        with path.open("r+b") as stream:  # the first page: the schema
            stream.seek(100)
            stream.write(os.urandom(1000))
    again = CatalogWriter(path, lambda: 1_800_000_001.0)
    try:
        assert again.rebuilt
        assert Path(f"{path}.aside").exists()
        again.compose(ONE)
        new = again.apply_listing(1, 0, [file("f0001")], 5.0, {}).added
        assert min(new) > max(added)
        assert reader.reopen()
        assert not reader.reopen()
        assert reader.get(added[0]) is None
        assert list(tree(reader)) == ["f0001"]
    finally:
        again.close()
        reader.close()
    check(path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM meta WHERE name='generation'", "lacks 'generation'"),
        ("ALTER TABLE meta RENAME COLUMN value TO other", "cannot be written"),
    ],
)
def test_a_catalog_that_cannot_be_used_is_closed_again(path: Path, damage: str, told: str) -> None:
    CatalogWriter(path).close()
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    with pytest.raises(CacheError, match=told) as caught:
        CatalogWriter(path)
    names = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not [name for name in names if str(path) in name], caught.value


def test_row_ids_fit_where_they_are_used() -> None:
    assert first_row_id(4_000_000_000.0) * 2 + 1 < 2**53
    assert first_row_id(0.0) == 2


def test_damage_while_open_is_told_and_mended_by_the_next_start(path: Path) -> None:
    writer = CatalogWriter(path)
    writer.compose(ONE)
    writer.apply_listing(1, 0, [file(f"f{n:05d}") for n in range(5000)], 5.0, {})
    writer.checkpoint()
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(path.stat().st_size - 4096))
    writer.connection.execute("PRAGMA shrink_memory")
    with pytest.raises(CacheError, match=r"damaged .* set aside"):
        writer.apply_listing(1, 0, [file(f"g{n:05d}") for n in range(5000)], 6.0, {})
    writer.close()
    again = CatalogWriter(path)
    again.close()
    check(path)


def test_a_reader_sees_old_or_new_while_the_writer_writes(
    writer: CatalogWriter, path: Path
) -> None:
    old = [file(f"{n:03d}", 1) for n in range(200)]
    new = [file(f"{n:03d}", 2) for n in range(300)]
    writer.apply_listing(1, 0, old, 1.0, {})
    stop = threading.Event()
    seen: set[tuple[int, frozenset[bytes]]] = set()

    def read() -> None:
        reader = CatalogReader(path)
        while not stop.is_set():
            rows = reader.children(1, b"", 1000)
            seen.add((len(rows), frozenset(row.version for row in rows)))
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(60):
        writer.apply_listing(1, 0, new if turn % 2 == 0 else old, 2.0 + turn, {})
    stop.set()
    thread.join(10)
    assert seen <= {(200, frozenset({b"1"})), (300, frozenset({b"2"}))}


def test_omitted_keys_are_counted_by_folder_and_reason(writer: CatalogWriter, path: Path) -> None:
    long = "x" * 300
    listing = [file("a"), ObjectInfo("a", Kind.DIRECTORY), file(long), file("b")]
    writer.apply_listing(1, 0, listing, 7.0, {"empty path part": 2})
    reader = CatalogReader(path)
    found = reader.listing(1)
    assert found is not None
    assert (found.listed_at, found.omitted) == (7.0, 4)
    assert reader.omitted(1) == {
        "empty path part": 2,
        "a file that is also a folder": 1,
        "a name over 255 bytes": 1,
    }
    assert {name: entry.kind for name, entry in tree(reader).items()} == {
        "a": Kind.DIRECTORY,
        "b": Kind.FILE,
    }
    writer.apply_listing(1, 0, [file("b")], 8.0, {})
    assert reader.omitted() == {}
    reader.close()


def test_names_that_are_no_text_and_symlinks_are_kept_exactly(
    writer: CatalogWriter, path: Path
) -> None:
    odd = os.fsdecode(b"\xff\xfe name")
    link = ObjectInfo("link", Kind.SYMLINK, 4, 1, b"v", 0o777, os.fsdecode(b"../\xff"))
    writer.apply_listing(1, 0, [file(odd), link], 1.0, {})
    reader = CatalogReader(path)
    assert reader.lookup(1, b"\xff\xfe name") is not None
    entry = reader.resolve(b"link")
    assert entry is not None
    assert reader.target_of(entry.id) == b"../\xff"
    assert entry.mode == 0o777
    changes = writer.apply_listing(1, 0, [file(odd), link._replace(target="b")], 2.0, {})
    assert [old for old, _ in changes.changed] == [entry.id]
    changed = reader.resolve(b"link")
    assert changed is not None
    assert (changed.ino, reader.target_of(changed.id)) == (entry.ino, b"b")
    assert reader.target_of(entry.id) == b"../\xff"  # the old version still answers
    with pytest.raises(CacheError, match="is no symlink"):
        reader.target_of(1)
    reader.close()


def test_purge_keeps_what_is_held_and_its_way_up(path: Path) -> None:
    now = [1_800_000_000.0]
    writer = CatalogWriter(path, lambda: now[0])
    writer.compose(ONE)
    folder = writer.apply_listing(1, 0, [ObjectInfo("d", Kind.DIRECTORY)], 1.0, {}).added[0]
    held, other = writer.apply_listing(folder, 0, [file("d/a"), file("d/b")], 1.0, {}).added
    assert sorted(writer.apply_listing(1, 0, [], 2.0, {}).removed) == [folder, held, other]
    reader = CatalogReader(path)
    assert writer.purge([held]) == 0
    now[0] += 90_000
    assert writer.purge([held]) == 1
    assert reader.get(other) is None
    assert reader.path_of(held) == b"d/a"
    kept = reader.get(held)
    assert kept is not None
    assert not kept.live
    assert writer.purge() == 2
    reader.close()
    writer.close()


def test_directories_by_mounts_alone_are_always_fresh(path: Path) -> None:
    writer = CatalogWriter(path)
    writer.compose(DatasetDefinition("d", "default", (MountDefinition("m", "/a/b", SOURCE),)))
    reader = CatalogReader(path)
    a = reader.resolve(b"a")
    assert a is not None
    assert a.mount == -1
    for row in (1, a.id):
        listing = reader.listing(row)
        assert listing is not None
        assert listing.listed_at == SYNTHETIC_LISTED_AT
    b = reader.resolve(b"a/b")
    assert b is not None
    assert (b.mount, reader.listing(b.id)) == (0, None)
    reader.close()
    writer.close()
