"""Merging ranges that lie near each other, so that a source is asked less often; pure."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
"""Bytes `[start, end)`."""


def coalesce(ranges: Iterable[Range], gap: int, limit: int) -> list[Range]:
    """The fewest requests that cover `ranges`: sorted, disjoint, each `limit` bytes at most.

    Ranges with `gap` bytes or fewer between them are joined, the gap read and thrown away; a
    range longer than `limit` is cut. Empty ranges are dropped, overlapping ones are read once.
    Raises ValueError for a negative gap or a limit below 1.
    """
    if gap < 0 or limit < 1:
        raise ValueError(f"gap {gap} must not be negative and limit {limit} must be positive")
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if end <= start:
            continue
        if joined and start - joined[-1][1] <= gap and _fits(joined[-1], start, end, limit):
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return [piece for whole in joined for piece in _cut(whole, limit)]


def _fits(before: Range, start: int, end: int, limit: int) -> bool:
    """Whether joining needs no bytes of a gap in a request of its own: overlaps always join."""
    return start <= before[1] or max(end, before[1]) - before[0] <= limit


def _cut(whole: Range, limit: int) -> list[Range]:
    start, end = whole
    return [(at, min(at + limit, end)) for at in range(start, end, limit)]
