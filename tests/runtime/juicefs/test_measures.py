"""What the engine prints, as it printed it (JuiceFS 1.4.2), and what is made of it."""

from __future__ import annotations

from fluidpy.runtime.juicefs.measures import (
    Checked,
    VolumeSize,
    cache_states,
    checked,
    counters,
    volume_size,
)

STATS = """juicefs_blockcache_blocks 1
juicefs_blockcache_bytes 1004096
juicefs_blockcache_hit_bytes 3000000
juicefs_blockcache_miss_bytes 1000000
juicefs_cpu_usage 0.087382
juicefs_nothing NaN-like
"""

INFO = """mnt :
  inode: 1
  files: 2
   dirs: 1
 length: 1.91 MiB (2000000 Bytes)
   size: 1.92 MiB (2015232 Bytes)
   path: /
"""

CHECK = (
    "2026/11/30 07:57:50.804762 juicefs[8325] <INFO>: check cache: 3 files checked, "
    "488 KiB of 977 KiB (50.0%) cached [warmup@warmup.go:332]\n"
)


def test_cache_states_follow_the_counters() -> None:
    states = cache_states(counters(STATS), 2**30, volume_size(INFO))
    assert states["cached"] == "980.56KiB"
    assert states["cacheCapacity"] == "1.00GiB"
    assert states["cachedPercentage"] == "50.2%"
    assert states["cacheHitRatio"] == states["localHitRatio"] == "75.0%"
    assert states["remoteHitRatio"] == "0.0%"
    assert len(states) == 12


def test_nothing_is_said_of_a_volume_that_was_not_counted() -> None:
    assert cache_states({}, 0, None)["cachedPercentage"] == ""
    assert cache_states({}, 0, VolumeSize(0, 0))["cachedPercentage"] == "100.0%"


def test_what_the_engine_prints_is_understood_or_left() -> None:
    assert counters(STATS)["juicefs_cpu_usage"] == 0.087382
    assert volume_size(INFO) == VolumeSize(2, 2_000_000)
    assert volume_size("permission denied") is None
    assert checked(CHECK) == Checked(3, 977 * 1024, 488 * 1024)
    assert checked("something else") is None
