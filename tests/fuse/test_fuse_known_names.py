"""Names are looked up once while the catalog stays as it is."""

from __future__ import annotations

from typing import cast

import pytest

from fluidpy.fuse import known_names
from fluidpy.fuse.known_names import KnownNames
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.storage.under_storage import Kind


class Catalog:
    """Has a file for each name; counts the queries."""

    def __init__(self) -> None:
        self.state = b"1"
        self.queries = 0
        self.row = 10

    def mark(self) -> bytes:
        return self.state

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        self.queries += 1
        if name == b"absent":
            return None
        return Entry(self.row, parent, name, Kind.FILE, 1, 0, None, self.row, b"v", 0, True)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def names(catalog: Catalog) -> KnownNames:
    return KnownNames(cast("CatalogReader", catalog))


def test_a_name_is_asked_for_again_after_a_change_only(names: KnownNames, catalog: Catalog) -> None:
    first = names.lookup(1, b"a")
    assert names.lookup(1, b"a") == first
    assert catalog.queries == 1
    catalog.state, catalog.row = b"2", 11
    found = names.lookup(1, b"a")
    assert found is not None
    assert found.id == 11


def test_names_of_two_folders_are_two(names: KnownNames) -> None:
    names.lookup(1, b"a")
    found = names.lookup(2, b"a")
    assert found is not None
    assert found.parent == 2


def test_what_is_not_there_is_looked_for_each_time(names: KnownNames, catalog: Catalog) -> None:
    assert names.lookup(1, b"absent") is None
    assert names.lookup(1, b"absent") is None
    assert catalog.queries == 2


def test_nothing_is_remembered_of_a_state_that_cannot_be_told(
    names: KnownNames, catalog: Catalog
) -> None:
    catalog.state = b""
    names.lookup(1, b"a")
    catalog.row = 11
    found = names.lookup(1, b"a")
    assert found is not None
    assert found.id == 11


def test_so_many_names_are_remembered_and_no_more(
    names: KnownNames, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_names, "MOST_KNOWN", 2)
    for name in (b"a", b"b", b"c", b"c", b"b"):
        names.lookup(1, name)
    assert catalog.queries == 3
    names.lookup(1, b"a")
    assert catalog.queries == 4
