"""All metadata of a path brought into the catalog by flat walks, one for each mount below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fluidpy.errors import SourceNotFoundError
from fluidpy.namespace.catalog_merge import CatalogMerge
from fluidpy.namespace.catalog_rows import Changes
from fluidpy.namespace.listing_flights import CatalogThread, Located, merge_pages


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
) -> MetadataReport:
    """Walks each place. When a source's error ends it, what was written stays, and is right."""
    started = clock()
    total = MetadataReport(0, 0)
    for place in places:
        before = total

        def on_files(
            files: int, size: int, place: Located = place, before: MetadataReport = before
        ) -> None:
            progress(MetadataProgress(before.files + files, before.bytes + size, place.mount.name))

        found = await _walk_one(thread, place, clock(), on_changes, on_files)
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
) -> MetadataReport:
    entry = place.entry
    merge = CatalogMerge(thread.writer, entry.id, entry.mount, place.path, recursive=True)

    def on_page(changes: Changes) -> None:
        on_changes(changes)
        on_files(merge.files, merge.bytes)

    try:
        await merge_pages(thread, merge, place.storage.walk(place.path), on_page)
    except SourceNotFoundError:
        composition = thread.writer.composition
        if entry.id in composition.tops or entry.id not in composition.directories:
            raise
        # It leads to a mount, and is there although its own source has no such folder.
    for changes in await thread.run(merge.finish, listed_at):
        on_changes(changes)
    omitted: Counter[str] = Counter()
    for (_, reason), number in merge.omitted.items():
        omitted[reason] += number
    return MetadataReport(merge.files, merge.bytes, dict(omitted))
