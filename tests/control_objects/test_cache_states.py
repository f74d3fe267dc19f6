"""Fluid's twelve cacheStates."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.quantity import format_ratio
from fluidpy.control.cache_states import ReadBytes, cache_states
from fluidpy.control.observed import SourceTotals, WorkerShare, source_totals
from fluidpy.control.recent_reads import RecentReads
from tests.control_objects.objects import MIB, share

FLUIDS_NAMES = {
    *("cached", "cachedPercentage", "cacheCapacity", "cacheHitRatio", "localHitRatio"),
    *("remoteHitRatio", "cacheThroughputRatio", "localThroughputRatio", "remoteThroughputRatio"),
    *("lowWaterMark", "highWaterMark", "nonCacheable"),
}


def test_hits_are_told_apart_by_where_they_came_from() -> None:
    states = cache_states(
        [
            share(bytes_from_cache=60 * MIB, bytes_from_source=30 * MIB, loaded_bytes=20 * MIB),
            share("worker-1", bytes_from_owner=20 * MIB, bytes_from_replica=10 * MIB),
        ]
    )
    assert states["localHitRatio"] == "60.0%"
    assert states["remoteHitRatio"] == "30.0%"
    assert states["cacheHitRatio"] == "90.0%"


def test_what_was_read_of_late_makes_the_throughput_ratios() -> None:
    states = cache_states([share(bytes_from_source=100)], ReadBytes(local=3, remote=1, source=0))
    assert states["cacheHitRatio"] == "0.0%"
    assert states["cacheThroughputRatio"] == "100.0%"
    assert states["localThroughputRatio"] == "75.0%"
    assert states["remoteThroughputRatio"] == "25.0%"


def test_what_one_worker_fetched_for_another_is_a_miss() -> None:
    first = share(bytes_from_owner=40 * MIB, bytes_from_cache=20 * MIB)
    owner = share("worker-1", bytes_from_source=40 * MIB, bytes_fetched_for_peers=40 * MIB)
    states = cache_states([first, owner])
    assert states["remoteHitRatio"] == "0.0%"
    assert states["cacheHitRatio"] == "33.3%"


def test_what_was_read_in_the_last_minute_counts_as_of_late() -> None:
    recent = RecentReads()
    assert recent.note([share(bytes_from_source=100)], 1000.0) == ReadBytes()
    assert recent.note([share(bytes_from_source=100, bytes_from_cache=7)], 1010.0).local == 7
    for at in range(1015, 1071, 5):
        seen = recent.note([share(bytes_from_source=100, bytes_from_cache=7)], float(at))
    assert seen == ReadBytes()


def test_a_worker_that_began_anew_or_came_counts_from_zero() -> None:
    recent = RecentReads()
    recent.note([share(bytes_from_source=100, bytes_from_owner=50)], 0.0)
    again = [share(bytes_from_source=5, bytes_from_owner=60), share("new", bytes_from_cache=3)]
    assert recent.note(again, 1.0) == ReadBytes(local=3, remote=60, source=5)
    assert recent.note([WorkerShare("worker-0", ready=False)], 2.0) == ReadBytes()


def test_marks_and_what_was_not_kept() -> None:
    states = cache_states([share(bytes_not_kept=5 * MIB)])
    assert (states["lowWaterMark"], states["highWaterMark"]) == ("85.0%", "95.0%")
    assert states["nonCacheable"] == "5.00MiB"


def test_nearly_all_is_not_all() -> None:
    assert format_ratio(999_999, 1_000_000) == "99.9%"
    assert format_ratio(1_000_000, 1_000_000) == "100.0%"
    assert format_ratio(3, 2) == "100.0%"


def test_an_empty_source_is_cached_as_a_whole() -> None:
    states = cache_states([share(totals=SourceTotals(0, 0, complete=True))])
    assert states["cachedPercentage"] == "100.0%"


def test_with_two_replicas_all_is_cached_when_both_are() -> None:
    totals = SourceTotals(1, 100, complete=True)
    shares = [share(cached=100, totals=totals), share("worker-1", cached=50, totals=totals)]
    assert cache_states(shares, replicas=2)["cachedPercentage"] == "75.0%"


def test_the_catalog_that_knows_all_wins() -> None:
    partly = SourceTotals(100, 1000, complete=False)
    whole = SourceTotals(90, 900, complete=True)
    assert source_totals([share(totals=partly), share("b", totals=whole)]) == whole
    assert source_totals([share()]) is None


counts = st.integers(0, 1 << 60)


@given(
    st.lists(
        st.builds(
            share,
            cached=counts,
            totals=st.none() | st.builds(SourceTotals, counts, counts, st.booleans()),
            bytes_from_cache=counts,
            bytes_from_source=counts,
            bytes_from_owner=counts,
            loaded_bytes=counts,
        ),
        max_size=4,
    )
)
def test_all_twelve_always_in_fluids_formats(shares: list[WorkerShare]) -> None:
    states = cache_states(shares)
    assert set(states) == FLUIDS_NAMES
    for name, text in states.items():
        if name in ("cached", "cacheCapacity", "nonCacheable"):
            assert re.fullmatch(r"\d+\.\d\d(B|[KMGTPE]iB)", text)
        else:
            assert text == "" or re.fullmatch(r"\d+\.\d%", text)
            assert not text or float(text[:-1]) <= 100


def test_what_a_worker_says_is_read() -> None:
    answer = {
        "seconds": 12.5,
        "datasets": [
            {"key": "other/x"},
            {
                "key": "default/pets",
                "cached_bytes": 7,
                "totals": {"files": 1, "bytes": 9, "complete": True},
                "tiers": [{"directory": "/d", "quota_bytes": 10, "used_bytes": 8,
                           "low": 0.5, "high": 0.9}],
                "counters": {"opens": 2, "errors": {"SourceError": 1}},
            },
        ],
    }  # fmt: skip
    found = WorkerShare.from_status("worker-0", answer, "default/pets")
    assert (found.ready, found.cached_bytes, found.capacity_bytes) == (True, 7, 10)
    assert found.totals == SourceTotals(1, 9, complete=True)
    assert found.counters == {"opens": 2}
    assert not WorkerShare.from_status("worker-0", answer, "default/none").ready
