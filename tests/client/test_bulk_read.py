"""Many ranges of one file at once."""

from __future__ import annotations

import os
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.client.bulk_read import MERGE_GAP_BYTES, Range, read_ranges
from fluidpy.client.file import ObjectReader


class Looks:
    """How often somebody looked at the length of what was read."""

    number = 0


class Counted(bytes):
    """Bytes that count looks at their length."""

    def __len__(self) -> int:
        Looks.number += 1
        return super().__len__()


class PartialFile:
    """A file that is not in the cache as a whole."""

    complete = False

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_range(self, start: int, end: int) -> bytes:
        return Counted(self.data[start:end])


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-300_000, 300_000), st.none() | st.integers(-300_000, 300_000)
        )
    )
)
def test_ranges_are_those_of_slices(bounds: list[tuple[int | None, int | None]]) -> None:
    data = os.urandom(200_000)
    ranges = [Range(number, start, end) for number, (start, end) in enumerate(bounds)]
    found = dict(read_ranges(cast(ObjectReader, PartialFile(data)), ranges))
    assert found == {number: data[start:end] for number, (start, end) in enumerate(bounds)}


def test_the_work_grows_with_the_ranges_and_not_with_their_square() -> None:
    number, Looks.number = 1000, 0
    reader = PartialFile(bytes(number * (MERGE_GAP_BYTES + 8)))
    starts = range(0, reader.size, MERGE_GAP_BYTES + 8)
    ranges = [Range(place, start, start + 4) for place, start in enumerate(starts)]
    found = read_ranges(cast(ObjectReader, reader), ranges)
    assert [data for _, data in found] == [bytes(4)] * number
    assert Looks.number < 10 * number
