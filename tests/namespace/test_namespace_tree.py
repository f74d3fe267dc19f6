from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidpy.errors import ValidationError
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.namespace.tree import Node, lay_out
from fluidpy.storage.under_storage import Kind, MountSource, ObjectInfo
from tests.namespace.catalog_view import check, tree
from tests.namespace.fake_storage import file


def mounts(*paths: str) -> tuple[MountDefinition, ...]:
    return tuple(
        MountDefinition(f"m{path}", path, MountSource(f"s3://bucket{path}")) for path in paths
    )


def dataset(*paths: str) -> DatasetDefinition:
    return DatasetDefinition("d", "default", mounts(*paths))


def test_nested_mounts_and_the_folders_on_the_way() -> None:
    assert lay_out(mounts("/a/b", "/a", "/x/y")) == [
        Node((), -1, False),
        Node((b"a",), 1, True),
        Node((b"x",), -1, False),
        Node((b"a", b"b"), 0, True),
        Node((b"x", b"y"), 2, True),
    ]


def test_folders_on_the_way_inside_an_outer_mount_are_listed_by_it() -> None:
    assert lay_out(mounts("/", "/a/b")) == [
        Node((), 0, True),
        Node((b"a",), 0, False),
        Node((b"a", b"b"), 1, True),
    ]


def test_all_clashes_are_told_with_both_names() -> None:
    made = [
        MountDefinition(name, path, MountSource("s3://b"))
        for name, path in [("one", "/a"), ("two", "/a"), ("three", "/b"), ("four", "/b")]
    ]
    with pytest.raises(ValidationError) as caught:
        lay_out(made)
    assert str(caught.value) == (
        "mounts 'one' and 'two' both have the path /a\n"
        "mounts 'three' and 'four' both have the path /b. Give each mount a path of its own."
    )


def test_a_single_mount_at_the_root_is_the_root(tmp_path: Path) -> None:
    writer = CatalogWriter(tmp_path / "c.sqlite")
    writer.compose(dataset("/"))
    assert writer.composition.tops == (1,)
    writer.close()


def test_an_inner_mount_hides_what_the_outer_has_at_that_name(tmp_path: Path) -> None:
    writer = CatalogWriter(tmp_path / "c.sqlite")
    reader_rows = writer.compose(dataset("/", "/a/b")).added
    assert len(reader_rows) == 2
    reader = CatalogReader(tmp_path / "c.sqlite")
    writer.apply_listing(1, 0, [file("a"), file("z")], 1.0, {})  # a file where a folder must be
    shown = tree(reader)
    assert {path: entry.mount for path, entry in shown.items()} == {"a": 0, "a/b": 1, "z": 0}
    inner = shown["a/b"]
    listing = [ObjectInfo("a/b", Kind.DIRECTORY), file("a/c")]
    writer.apply_listing(shown["a"].id, 0, listing, 1.0, {})
    writer.apply_listing(inner.id, 1, [file("own")], 1.0, {})
    shown = tree(reader)
    assert sorted(shown) == ["a", "a/b", "a/b/own", "a/c", "z"]
    assert shown["a/b"].id == inner.id
    reader.close()
    writer.close()


def test_a_mount_that_leaves_takes_its_rows_and_the_others_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    writer = CatalogWriter(path)
    writer.compose(dataset("/", "/in", "/in/deep"))
    top, inner, deep = writer.composition.tops
    for row, mount, name in ((top, 0, "t"), (inner, 1, "i"), (deep, 2, "d")):
        writer.apply_listing(row, mount, [file(name)], 5.0, {})
    reader = CatalogReader(path)
    before = tree(reader)
    writer.close()
    writer = CatalogWriter(path)
    changes = writer.compose(dataset("/in/deep", "/"))
    after = tree(reader)
    assert {path: entry.mount for path, entry in after.items()} == {
        "in": 1,
        "in/deep": 0,
        "in/deep/d": 0,
        "t": 1,
    }
    assert all(after[name].id == before[name].id for name in after)
    assert changes.removed == [before["in/i"].id]
    assert reader.listing(before["in/deep"].id) is not None  # still known
    assert reader.listing(before["in"].id) is None  # of another source now
    gone = reader.get(before["in/i"].id)
    assert gone is not None
    assert (gone.live, gone.mount) == (False, -2)
    reader.close()
    writer.close()
    check(path)


def test_other_options_have_all_listed_again_other_secrets_do_not(tmp_path: Path) -> None:
    writer = CatalogWriter(tmp_path / "c.sqlite")
    reader = CatalogReader(tmp_path / "c.sqlite")

    def compose(options: dict[str, str], secrets: dict[str, str]) -> bool:
        source = MountSource("s3://b", "m", options, secrets)
        writer.compose(DatasetDefinition("d", "default", (MountDefinition("m", "/", source),)))
        listed = reader.listing(1) is not None
        writer.apply_listing(1, 0, [file("a")], 1.0, {})
        return listed

    assert not compose({}, {"key": "1"})
    assert compose({}, {"key": "2"})
    assert not compose({"endpoint": "http://other"}, {"key": "2"})
    reader.close()
    writer.close()


PATH = st.lists(st.sampled_from("abc"), max_size=3).map(lambda parts: "/" + "/".join(parts))
SETS = st.lists(PATH, min_size=1, max_size=4, unique=True)


def list_what_is_not(writer: CatalogWriter, reader: CatalogReader) -> None:
    """Lists, as visits would, all folders that count as never listed; each source holds a, b, z."""
    tops = writer.composition.tops
    while True:
        entries = [entry for entry in (reader.get(1), *tree(reader).values()) if entry is not None]
        folders = [entry for entry in entries if entry.kind is Kind.DIRECTORY]
        unlisted = [entry for entry in folders if reader.listing(entry.id) is None]
        if not unlisted:
            return
        for entry in unlisted:
            listing = [file("a"), ObjectInfo("b", Kind.DIRECTORY), file("z")]
            shown = listing if entry.id in tops else []
            writer.apply_listing(entry.id, entry.mount, shown, 1.0, {})


def expected_tree(paths: list[str]) -> dict[str, int]:
    expected = {"/".join(p.decode() for p in n.parts): n.mount for n in lay_out(mounts(*paths))}
    del expected[""]
    for index, mount in enumerate(mounts(*paths)):
        prefix = mount.path.strip("/") + "/" if mount.path != "/" else ""
        for name in ("a", "b", "z"):
            expected.setdefault(prefix + name, index)
    return expected


@settings(max_examples=60, deadline=None)
@given(first=SETS, second=SETS)
def test_any_composition_after_any_other_gives_exactly_its_tree(
    first: list[str], second: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "c.sqlite"
        writer = CatalogWriter(path)
        reader = CatalogReader(path)
        for paths in (first, second, first):
            writer.compose(dataset(*paths))
            list_what_is_not(writer, reader)
            assert {p: e.mount for p, e in tree(reader).items()} == expected_tree(paths)
            for top, mount in zip(writer.composition.tops, mounts(*paths), strict=True):
                entry = reader.resolve(mount.path.encode())
                assert entry is not None
                assert entry.id == top
        reader.close()
        writer.close()
        check(path)
