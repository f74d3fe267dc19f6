"""The pure parts: sets of blocks, bytes of them, watermarks, wire form of a tier."""

from __future__ import annotations

import itertools
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cache import presence
from fluidpy.cache.accounting import plan_room
from fluidpy.cache.index import pack_blocks, unpack_blocks
from fluidpy.cache.reconciliation import parse_name
from fluidpy.cache.tier import TierDefinition, default_tier
from fluidpy.errors import ValidationError

masks = st.integers(0, (1 << 200) - 1)


@given(masks)
def test_runs_are_the_members_joined(mask: int) -> None:
    found = list(presence.runs(mask))
    joined = [n for first, last in found for n in range(first, last)]
    assert joined == list(presence.members(mask)) == [n for n in range(200) if mask >> n & 1]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(found))


@given(masks, st.integers(0, 4096 * 8), st.sampled_from([4096, 16384]))
def test_allocated_bytes_count_whole_pages(mask: int, length: int, block: int) -> None:
    blocks = presence.block_count(length, block)
    mask &= presence.range_mask(0, blocks)
    sizes = (min(block, length - n * block) for n in presence.members(mask))
    assert presence.allocated_bytes(mask, length, block) == sum(-(-s // 4096) * 4096 for s in sizes)


@given(st.integers(1, 1 << 50), st.integers(4096, 1 << 45))
def test_segments_are_an_eighth_of_the_tier_at_most(size: int, quota: int) -> None:
    segment = presence.segment_bytes_for(size, quota, 4096)
    if segment:
        assert segment % 4096 == 0
        assert segment <= max(quota // 8, 4096)
        assert segment <= 1 << 30
    else:
        assert size <= max(quota // 8, 4096)


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6),
    st.floats(0.5, 1), st.floats(0.1, 0.49), st.booleans(),
)  # fmt: skip
def test_the_plan_keeps_the_quota_and_stops_at_the_low_mark(
    used: int, need: int, quota: int, high: float, low: float, evicting: bool
) -> None:
    plan = plan_room(used, need, quota, high, low, evicting)
    assert used + need - plan.must <= quota
    assert plan.should >= plan.must >= 0
    after = used + need
    if after > int(quota * high):
        assert plan.evicting
        assert after - plan.should <= int(quota * low)
    elif not evicting:
        assert plan.should == plan.must == 0


@given(st.lists(st.integers(0, 2**32 - 1), max_size=300), masks)
def test_packed_blocks_come_back(sums: list[int], mask: int) -> None:
    mask &= presence.range_mask(0, len(sums))
    values = array("I", sums)
    assert unpack_blocks(pack_blocks(mask, values), len(sums)) == (mask, values)
    assert unpack_blocks(pack_blocks(mask, values) + b"x", len(sums))[0] == 0


def test_names_that_are_not_cache_files_are_not_taken_for_some() -> None:
    assert parse_name("ab12") == (b"\xab\x12", 0)
    assert parse_name("ab12.7") == (b"\xab\x12", 7)
    assert parse_name("AB12") is parse_name("ab1") is parse_name("ab12.") is parse_name("x") is None


def test_a_tier_travels_as_plain_values() -> None:
    tier = TierDefinition("/cache", 1 << 30, 0.9, 0.5, "MEM")
    assert TierDefinition.from_wire(tier.to_wire()) == tier
    assert TierDefinition.in_directory("/mnt/disk", 1 << 30).directory == "/mnt/disk/fluidpy-store"


def test_every_wrong_value_of_a_tier_is_named() -> None:
    with pytest.raises(ValidationError) as raised:
        TierDefinition("cache", 5, 0.5, 0.8, "TAPE")
    for word in ("absolute", "5 bytes", "0 < low < high", "TAPE"):
        assert word in str(raised.value)


def test_the_default_tier_takes_a_share_of_the_free_disk(tmp_path: Path) -> None:
    half = default_tier(tmp_path / "not" / "there", 0.5).quota_bytes
    tenth = default_tier(tmp_path, 0.1).quota_bytes
    assert half > tenth > 4096
