"""Answers to opens are forgotten with each change of the catalog."""

from __future__ import annotations

from typing import cast

import pytest

from fluidpy.fuse import known_opens
from fluidpy.fuse.known_opens import KnownOpens
from fluidpy.namespace.catalog import CatalogReader


class Catalog:
    state = b"1"

    def mark(self) -> bytes:
        return self.state


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def known(catalog: Catalog) -> KnownOpens:
    made = KnownOpens(cast("CatalogReader", catalog))
    assert made.get(5) is None
    made.note(5, b"answer")
    return made


def test_an_answer_is_known_while_the_catalog_stays_as_it_is(
    known: KnownOpens, catalog: Catalog
) -> None:
    assert known.get(5) == b"answer"
    catalog.state = b"2"
    assert known.get(5) is None
    catalog.state = b"1"
    assert known.get(5) is None


def test_nothing_is_noted_in_a_state_that_cannot_be_told(
    known: KnownOpens, catalog: Catalog
) -> None:
    catalog.state = b""
    assert known.get(5) is None
    known.note(5, b"answer")
    assert known.get(5) is None


def test_an_answer_is_forgotten_when_another_is_due(known: KnownOpens) -> None:
    known.forget(5)
    known.forget(6)
    assert known.get(5) is None


def test_so_many_answers_are_remembered_and_no_more(
    known: KnownOpens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_opens, "MOST_KNOWN", 1)
    known.note(6, b"other")
    assert known.get(5) is None
    assert known.get(6) == b"other"
