"""All metadata of a path brought into the catalog by flat walks, one for each mount below it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from fluidpy.errors import SourceNotFoundError
from fluidpy.namespace import listing_flights
from fluidpy.namespace.catalog_merge import CatalogMerge
from fluidpy.namespace.catalog_rows import Changes
from fluidpy.namespace.listing_flights import (
    CatalogThread,
    Located,
    finish_merge,
    joined,
    merge_pages,
)
from fluidpy.storage.under_storage import ListPage

Rest: TypeAlias = Callable[[float], Awaitable[None]]


class MetadataProgress(NamedTuple):
    """How far a load is: files and bytes seen so far, and the mount that is being walked."""

    files: int
    bytes: int
    mount: str


@dataclass(frozen=True, slots=True)
class MetadataReport:
    """What a load found; `omitted` counts by reason the keys that cannot be shown."""

    files: int
    bytes: int
    omitted: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


async def walk(
    thread: CatalogThread,
    places: Sequence[Located],
    clock: Callable[[], float],
    on_changes: Callable[[Changes], None],
    progress: Callable[[MetadataProgress], None],
    rest: Rest | None = None,
) -> MetadataReport:
    """Walks each place. When a source's error ends it, what was written stays, and is right.

    `rest` is awaited after each page, with the seconds that it took.
    """
    started = clock()
    total = MetadataReport(0, 0)
    for place in places:
        before = total

        def on_files(
            files: int, size: int, place: Located = place, before: MetadataReport = before
        ) -> None:
            progress(MetadataProgress(before.files + files, before.bytes + size, place.mount.name))

        found = await _walk_one(thread, place, clock(), on_changes, on_files, rest)
        total = MetadataReport(
            before.files + found.files,
            before.bytes + found.bytes,
            dict(Counter(before.omitted) + Counter(found.omitted)),
        )
    return replace(total, seconds=clock() - started)


async def _walk_one(
    thread: CatalogThread,
    place: Located,
    listed_at: float,
    on_changes: Callable[[Changes], None],
    on_files: Callable[[int, int], None],
    rest: Rest | None,
) -> MetadataReport:
    entry = place.entry
    merge = CatalogMerge(thread.writer, entry.id, entry.mount, place.path, recursive=True)

    def on_page(changes: Changes) -> None:
        on_changes(changes)
        on_files(merge.files, merge.bytes)

    pages = place.storage.walk(place.path)
    if rest is not None:  # with no entries at hand: they would be old once it goes on
        pages = _rested(joined(pages, listing_flights.PAGE_ENTRIES), rest)
    try:
        await merge_pages(thread, merge, pages, on_page)
    except SourceNotFoundError:
        composition = thread.writer.composition
        if entry.id in composition.tops or entry.id not in composition.directories:
            raise
        # It leads to a mount, and is there although its own source has no such folder.
    await finish_merge(thread, merge, listed_at, on_changes)
    omitted: Counter[str] = Counter()
    for (_, reason), number in merge.omitted.items():
        omitted[reason] += number
    return MetadataReport(merge.files, merge.bytes, dict(omitted))


async def _rested(pages: AsyncIterator[ListPage], rest: Rest) -> AsyncIterator[ListPage]:
    began = time.monotonic()
    async for page in pages:
        yield page
        await rest(time.monotonic() - began)
        began = time.monotonic()
