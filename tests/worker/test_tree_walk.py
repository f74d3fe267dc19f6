from __future__ import annotations

import os
from itertools import count
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.storage.under_storage import Kind
from fluidpy.worker import tree_walk
from fluidpy.worker.tree_walk import files_below
from tests.worker.conftest import Machine


class Tree:
    """What a walk asks of a catalog, over paths."""

    def __init__(self, paths: set[str]) -> None:
        self.folders: dict[int, dict[bytes, Entry]] = {1: {}}
        numbers = count(2)
        for path in paths:
            folder, *names = 1, *os.fsencode(path).split(b"/")
            for position, name in enumerate(names):
                last = position == len(names) - 1
                kind = Kind.FILE if last else Kind.DIRECTORY
                known = self.folders[folder].get(name)
                if known is None:
                    number = next(numbers)
                    known = Entry(number, folder, name, kind, 0, 0, None, number, b"", 0, True)
                    self.folders[folder][name] = known
                    self.folders[number] = {}
                folder = known.id

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        return self.folders[parent].get(name)

    def children(self, directory: int, after: bytes, limit: int) -> list[Entry]:
        names = sorted(name for name in self.folders[directory] if name > after)
        return [self.folders[directory][name] for name in names[:limit]]


_paths = st.sets(
    st.lists(st.sampled_from(["a", "b", "b.c", "z"]), min_size=1, max_size=3).map(
        lambda names: "/".join([*names[:-1], f"f{names[-1]}"])
    ),
    max_size=12,
)


@given(_paths, st.integers(1, 3))
def test_a_walk_goes_on_after_any_file_it_gave(paths: set[str], page: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_walk, "PAGE", page)
        reader = cast(CatalogReader, Tree(paths))
        whole = [path for path, _ in files_below(reader, 1)]
        assert whole == sorted(paths, key=lambda path: path.split("/"))
        for position, path in enumerate(whole):
            assert [p for p, _ in files_below(reader, 1, after=path)] == whole[position + 1 :]


@given(_paths, _paths)
def test_a_walk_goes_on_where_a_file_that_is_gone_was(paths: set[str], gone: set[str]) -> None:
    reader = cast(CatalogReader, Tree(paths - gone))
    for path in gone:
        later = [p for p in paths - gone if p.split("/") > path.split("/")]
        found = [p for p, _ in files_below(reader, 1, after=path)]
        assert found == sorted(later, key=lambda p: p.split("/"))


def test_what_is_cached_is_listed_in_pages(machine: Machine) -> None:
    long = "n" * 200
    paths = [f"{folder}/{long}{number:04}" for folder in ("a", "b") for number in range(250)]
    for path in paths:
        machine.write(path, b"x")
    session = machine.session()
    assert machine.ask(session, "load", paths=[])["done_files"] == len(paths)
    found: list[str] = []
    answer = machine.ask(session, "cache_list", path="/")
    pages = 1
    found += [row["path"] for row in answer["objects"]]
    while answer["truncated"]:
        answer = machine.ask(session, "cache_list", path="/", after=answer["after"])
        found += [row["path"] for row in answer["objects"]]
        pages += 1
    assert (found, pages > 1) == (paths, True)
    answer = machine.ask(session, "cache_list", path="/b", after=paths[-2])
    assert [row["path"] for row in answer["objects"]] == [paths[-1]]
