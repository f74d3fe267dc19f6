"""Reading many ranges of many files at once.

Files are opened one after the other (one short round trip each); what the cache has as a whole is
read on the spot, since threads would only slow that down. The others are read by threads, so that
their sources are asked in parallel.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from fluidpy.client.file import ObjectReader
from fluidpy.client.session import clip
from fluidpy.errors import FluidpyError

MAX_OPEN_FILES: Final = 64
"""Files of one call open at once: fds are scarce (1,024 a process by default)."""

MERGE_GAP_BYTES: Final = 64 * 1024
"""Ranges of one file closer than this are asked of the worker as one: it fetches whole blocks, at
least 4 KiB and 1 MiB by default, so that small gaps are fetched in any case."""

Result: TypeAlias = "bytes | Exception"


class Range(NamedTuple):
    """One wanted range: `place` in the answer; negative or missing bounds as in a slice."""

    place: int
    start: int | None
    end: int | None


def merged(spans: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Spans in order, those less than `gap` apart joined; empty ones left out."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def read_ranges(reader: ObjectReader, ranges: Sequence[Range]) -> list[tuple[int, Result]]:
    """The bytes of ranges of one open file, with their indices."""
    spans = [clip(wanted.start, wanted.end, reader.size) for wanted in ranges]
    if reader.complete:
        return [
            (wanted.place, reader.read_range(start, end))
            for wanted, (start, end) in zip(ranges, spans, strict=True)
        ]
    pieces = [
        (start, reader.read_range(start, end)) for start, end in merged(spans, MERGE_GAP_BYTES)
    ]
    return [
        (wanted.place, cut(pieces, start, end))
        for wanted, (start, end) in zip(ranges, spans, strict=True)
    ]


def cut(pieces: Sequence[tuple[int, bytes]], start: int, end: int) -> bytes:
    """The bytes `[start, end)` out of pieces in the order of their beginnings."""
    number = bisect_right(pieces, start, key=itemgetter(0)) - 1
    if number < 0 or start >= end:
        return b""
    first, piece = pieces[number]
    return piece[start - first : end - first]


def read_many(
    wanted: Sequence[tuple[str, list[Range]]],
    open_reader: Callable[[str], ObjectReader],
    executor: Callable[[], Executor],
    count: int,
) -> list[Result]:
    """`count` results for ranges grouped by path; an error stands in the place of each it hit."""
    results: list[Result] = [b""] * count
    room = threading.BoundedSemaphore(MAX_OPEN_FILES)
    futures: list[Future[None]] = []

    def finish(reader: ObjectReader, ranges: list[Range]) -> None:
        try:
            with reader:
                for index, data in read_ranges(reader, ranges):
                    results[index] = data
        except (FluidpyError, OSError) as error:
            _fail(results, ranges, error)
        finally:
            room.release()

    try:
        for path, ranges in wanted:
            room.acquire()
            try:
                reader = open_reader(path)
            except (FluidpyError, OSError) as error:
                room.release()
                _fail(results, ranges, error)
                continue
            if reader.complete or len(wanted) == 1:
                finish(reader, ranges)
            else:
                futures.append(executor().submit(finish, reader, ranges))
    finally:
        for future in futures:
            future.result()
    return results


def _fail(results: list[Result], ranges: Sequence[Range], error: Exception) -> None:
    for wanted in ranges:
        results[wanted.place] = error
