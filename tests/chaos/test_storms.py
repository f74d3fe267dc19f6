"""Readers of every kind while files are evicted and get new versions, and the server is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.chaos.bed import Bed, Load, new_bed
from tests.model.place import until

WORST_SECONDS = 1.0
"""No operation of a reader takes longer, whatever is killed."""


@pytest.fixture
def bed() -> Iterator[Bed]:
    with new_bed() as made:
        yield made


def check_after(bed: Bed, before: object) -> None:
    """All files are right, and nothing is held that was not before."""
    wrong: list[str] = []

    def right() -> bool:
        wrong[:] = bed.wrong_files()
        return not wrong

    assert until(right, 5), wrong
    assert bed.settled() == before


@pytest.mark.slow
def test_readers_while_files_are_evicted_and_change(bed: Bed) -> None:
    assert bed.wrong_files() == []
    before = bed.settled()
    with Load(bed, seed=1) as load:
        time.sleep(5)  # the load is what is tested
    load.check(WORST_SECONDS)
    check_after(bed, before)
