"""The tables at the end: times cold and warm, hit ratio, what lies where; all pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluidpy.cli.printers import human_bytes, table_lines

PARTS = {
    "images": "S3 bucket, by obstore",
    "tables": "NAS directory",
    "shards": "archive://, a class of your own",
}


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading of everything: how, in which state, seconds and bytes a part, worker's counts."""

    way: str
    warm: bool
    times: Mapping[str, tuple[float, int]]
    counts: Mapping[str, int]


def counts_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, int]:
    """What the worker counted in between, numbers only."""
    return {
        name: value - before.get(name, 0) for name, value in after.items() if isinstance(value, int)
    }


def hit_ratio(one: Pass) -> str:
    """The share of the bytes read that came from no source.

    The worker's own counts of hits would miss what the kernel or an open file serves by itself.
    """
    read = sum(size for _, size in one.times.values())
    return f"{max(0.0, 1 - one.counts['bytes_from_source'] / read):.0%}"


def time_lines(passes: Sequence[Pass]) -> list[str]:
    """One row a part and way: bytes, cold and warm seconds, and how much faster warm is."""
    rows = []
    for cold, warm in _pairs(passes):
        for part, place in PARTS.items():
            slow, size = cold.times[part]
            fast, _ = warm.times[part]
            rows.append(
                [part, place, cold.way, human_bytes(size), f"{slow:.2f} s", f"{fast:.2f} s",
                 f"{slow / fast:.0f} ×"]
            )  # fmt: skip
    return table_lines(["PART", "FROM", "READ BY", "SIZE", "COLD", "WARM", "FASTER"], rows)


def count_lines(passes: Sequence[Pass]) -> list[str]:
    """One row a pass: bytes read, bytes that a source gave for it, and the rest as hit ratio."""
    rows = [
        [
            f"{one.way}, {'warm' if one.warm else 'cold'}",
            human_bytes(sum(size for _, size in one.times.values())),
            human_bytes(one.counts["bytes_from_source"]),
            hit_ratio(one),
        ]
        for one in passes
    ]
    return table_lines(["PASS", "READ", "FETCHED FROM THE SOURCES", "HIT RATIO"], rows)


def cached_lines(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row a mount and tier: how many files and bytes lie there."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in objects:
        total = sums.setdefault((row["path"].split("/")[0], row["tier"]), [0, 0])
        total[0] += 1
        total[1] += row["cached_bytes"]
    rows = [
        [part, str(files), human_bytes(size), tier] for (part, tier), (files, size) in sums.items()
    ]
    return table_lines(["PART", "FILES", "CACHED", "TIER"], rows)


def _pairs(passes: Sequence[Pass]) -> list[tuple[Pass, Pass]]:
    return [(cold, warm) for cold, warm in zip(passes[::2], passes[1::2], strict=True)]
