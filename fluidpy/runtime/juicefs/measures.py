"""What the engine tells: its counters, the size of a volume, the outcome of a load. Pure.

The counters are those of `.stats` in the root of a mount, one `NAME VALUE` a line; their names are
those of its Prometheus metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fluidpy.api.quantity import format_bytes, format_ratio

CACHED: Final = "juicefs_blockcache_bytes"
HIT: Final = "juicefs_blockcache_hit_bytes"
MISSED: Final = "juicefs_blockcache_miss_bytes"

_FILES = re.compile(r"^\s*files:\s*(\d+)\s*$", re.MULTILINE)
_LENGTH = re.compile(r"^\s*length:.*\((\d+) Bytes\)\s*$", re.MULTILINE)
_UNITS = "BKMGTPE"
_CHECKED = re.compile(
    r"check cache: (\d+) files checked, ([\d.]+) ?(\w+) of ([\d.]+) ?(\w+) \([\d.]+%\) cached"
)


@dataclass(frozen=True, slots=True)
class VolumeSize:
    """Files below the shown folder, and the bytes that they hold."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What `juicefs warmup --check` found; it prints sizes with three digits."""

    files: int
    bytes: int
    cached_bytes: int


def counters(text: str) -> dict[str, float]:
    """The counters in `.stats`; lines of another form are passed over."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


def volume_size(text: str) -> VolumeSize | None:
    """What `juicefs info --recursive` printed; None when it says neither files nor length."""
    files, length = _FILES.search(text), _LENGTH.search(text)
    if files is None or length is None:
        return None
    return VolumeSize(int(files[1]), int(length[1]))


def checked(text: str) -> Checked | None:
    """The line that `juicefs warmup --check` ends with; None when it is not there."""
    found = _CHECKED.search(text)
    if found is None:
        return None
    return Checked(int(found[1]), _bytes(found[4], found[5]), _bytes(found[2], found[3]))


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * 1024 ** max(0, _UNITS.find(unit[:1])))


def cache_states(
    stats: Mapping[str, float], capacity_bytes: int, size: VolumeSize | None
) -> dict[str, str]:
    """Fluid's twelve cache states of one mount with a cache of its own.

    Hits are by bytes that reached the engine; pages that the kernel kept are not among them. There
    is no other cache to hit: remote ratios are 0. JuiceFS has no marks; both are left empty.
    """
    cached = int(stats.get(CACHED, 0))
    hit, missed = stats.get(HIT, 0.0), stats.get(MISSED, 0.0)
    hits = format_ratio(hit, hit + missed)
    return {
        "cached": format_bytes(cached),
        "cachedPercentage": _percentage(cached, size),
        "cacheCapacity": format_bytes(capacity_bytes),
        "cacheHitRatio": hits,
        "localHitRatio": hits,
        "remoteHitRatio": format_ratio(0, 0),
        "cacheThroughputRatio": hits,
        "localThroughputRatio": hits,
        "remoteThroughputRatio": format_ratio(0, 0),
        "lowWaterMark": "",
        "highWaterMark": "",
        "nonCacheable": format_bytes(0),
    }


def _percentage(cached: int, size: VolumeSize | None) -> str:
    if size is None:
        return ""
    return format_ratio(cached, size.bytes) if size.bytes else "100.0%"
