"""Folders listed at their sources when something asks: fresh ones not, each once at a time.

A listing of up to 20,000 entries is applied in one transaction; a longer one page by page, so that
a folder of a million files takes no memory. What the source says while it is down changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

from fluidpy.errors import (
    NotADirectoryInDatasetError,
    PathNotFoundError,
    SourceError,
    SourceNotFoundError,
)
from fluidpy.namespace.catalog import CatalogReader, Entry, is_fresh
from fluidpy.namespace.catalog_merge import CatalogMerge
from fluidpy.namespace.catalog_rows import Changes
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import MountDefinition
from fluidpy.storage.under_storage import Kind, ListPage, ObjectInfo, UnderStorage

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

ONE_TRANSACTION = 20_000
"""Entries of a folder up to which its listing is applied as one (about 10 MB of memory)."""
PAGE_ENTRIES = 4_000
"""Entries merged in one transaction of a longer listing: 20 ms of work, 1 MB of log."""
RETRY_SECONDS = 15.0
"""A folder whose source was down is served as it was for this long before it is tried again."""


class Located(NamedTuple):
    """Where an entry lies: the mount's storage and the path relative to the mount's root."""

    storage: UnderStorage
    mount: MountDefinition
    path: str
    entry: Entry


class CatalogThread:
    """The one thread that writes a catalog, with the writer's side of it."""

    def __init__(self, writer: CatalogWriter, executor: ThreadPoolExecutor) -> None:
        """`executor` has one thread."""
        self.writer = writer
        self._executor = executor

    async def run(self, function: Callable[_P, _T], *args: _P.args, **keywords: _P.kwargs) -> _T:
        """Calls `function` in that thread."""
        return await self._begin(function, *args, **keywords)

    async def tell(
        self,
        listener: Callable[[_T], None],
        function: Callable[_P, _T],
        *args: _P.args,
        **keywords: _P.kwargs,
    ) -> _T:
        """As `run`, and `listener` hears what came of it, also when the caller was cancelled: what
        is in the catalog by then must not stay unknown to those who watch it.
        """
        work = self._begin(function, *args, **keywords)

        def late(done: asyncio.Future[_T]) -> None:
            if not done.cancelled() and done.exception() is None:
                listener(done.result())

        try:
            result = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(late)
            raise
        listener(result)
        return result

    def _begin(
        self, function: Callable[_P, _T], *args: _P.args, **keywords: _P.kwargs
    ) -> asyncio.Future[_T]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, lambda: function(*args, **keywords))


async def joined(pages: AsyncIterator[ListPage], entries: int) -> AsyncIterator[ListPage]:
    """The pages, small ones joined until they hold `entries`."""
    gathered = ListPage([], [])
    async for page in pages:
        gathered.entries.extend(page.entries)
        gathered.omitted.extend(page.omitted)
        if len(gathered.entries) >= entries or len(gathered.omitted) >= entries:
            yield gathered
            gathered = ListPage([], [])
    yield gathered


async def merge_pages(
    thread: CatalogThread,
    merge: CatalogMerge,
    pages: AsyncIterator[ListPage],
    on_page: Callable[[Changes], None],
) -> None:
    """Merges pages while the source lists the next; all of `pages` or an error."""
    working: asyncio.Task[Changes] | None = None
    try:
        async for page in joined(pages, PAGE_ENTRIES):
            if working is not None:
                await working
            working = asyncio.create_task(thread.tell(on_page, merge.add, page))
    finally:
        if working is not None:
            await working


async def finish_merge(
    thread: CatalogThread,
    merge: CatalogMerge,
    listed_at: float,
    on_changes: Callable[[Changes], None],
) -> None:
    """Removes what a whole walk has not seen."""

    def tell_each(found: list[Changes]) -> None:
        for changes in found:
            on_changes(changes)

    await thread.tell(tell_each, merge.finish, listed_at)


class ListingFlights:
    """Lists folders; `failures` counts listings that a source could not give."""

    def __init__(
        self,
        thread: CatalogThread,
        reader: CatalogReader,
        locate: Callable[[int], Located],
        notify: Callable[[Changes], None],
        ttl_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """`notify` is told of changes; `ttl_seconds` is how long a listing counts as fresh."""
        self.failures = 0
        self._thread, self._reader, self._locate = thread, reader, locate
        self._notify, self._ttl, self._clock = notify, ttl_seconds, clock
        self._flights: dict[int, asyncio.Task[Changes]] = {}
        self._retry_at: dict[int, float] = {}

    def is_fresh(self, directory: int, max_age: float | None = None) -> bool:
        """Whether the folder was listed less than `max_age` seconds ago (None: the TTL)."""
        listing = self._reader.listing(directory)
        if listing is None:
            return False
        now = self._clock()
        limit = self._ttl if max_age is None else max_age
        if is_fresh(listing.listed_at + limit, limit, now):
            return True
        retry_in = self._retry_at.get(directory, 0.0) - now
        return max_age is None and 0.0 < retry_in <= RETRY_SECONDS

    async def ensure(self, directory: int, max_age: float | None = None) -> Changes:
        """Lists the folder unless it is fresh; joins a listing that is under way."""
        if self.is_fresh(directory, max_age):
            return Changes.none()
        self._check(directory)
        flight = self._flights.get(directory) or self._start(directory, strict=False)
        return await asyncio.shield(flight)

    async def refresh(self, directory: int) -> Changes:
        """Lists the folder now, after one that is under way; an error of the source is raised."""
        self._check(directory)
        while (flight := self._flights.get(directory)) is not None:
            await asyncio.wait([flight])
        return await asyncio.shield(self._start(directory, strict=True))

    async def close(self) -> None:
        """Ends listings that are under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _check(self, directory: int) -> Entry:
        entry = self._reader.get(directory)
        if entry is None or not entry.live:
            raise PathNotFoundError(
                f"folder number {directory} is not there any more", cure="Look its path up again."
            )
        if entry.kind is not Kind.DIRECTORY:
            raise NotADirectoryInDatasetError(
                f"{_text(self._reader, directory)} is not a folder", cure="List its folder."
            )
        return entry

    def _start(self, directory: int, *, strict: bool) -> asyncio.Task[Changes]:
        flight = asyncio.create_task(self._fly(directory, strict=strict))
        self._flights[directory] = flight

        def landed(task: asyncio.Task[Changes]) -> None:
            if self._flights.get(directory) is task:
                del self._flights[directory]
            if not task.cancelled():
                task.exception()  # whoever waits gets it; nobody may be left to

        flight.add_done_callback(landed)
        return flight

    async def _fly(self, directory: int, *, strict: bool) -> Changes:
        if self._check(directory).mount < 0:
            return Changes.none()
        known = self._reader.listing(directory) is not None
        try:
            changes = await self._list(directory)
        except SourceNotFoundError as error:
            return await self._missing(directory, error, lenient=known and not strict)
        except SourceError as error:
            if strict or not known:
                raise
            return self._keep(directory, error)
        self._retry_at.pop(directory, None)
        return changes

    async def _list(self, directory: int) -> Changes:
        located = self._locate(directory)
        listed_at = self._clock()
        pages = located.storage.list(located.path)
        entries: list[ObjectInfo] = []
        omitted: dict[str, int] = {}
        async for page in pages:
            entries.extend(page.entries)
            for _, reason in page.omitted:
                omitted[reason] = omitted.get(reason, 0) + 1
            if len(entries) > ONE_TRANSACTION:
                return await self._list_long(located, entries, omitted, pages, listed_at)
        return await self._apply(located.entry, entries, listed_at, omitted)

    async def _apply(
        self, entry: Entry, entries: list[ObjectInfo], listed_at: float, omitted: dict[str, int]
    ) -> Changes:
        apply = self._thread.writer.apply_listing
        return await self._thread.tell(
            self._notify, apply, entry.id, entry.mount, entries, listed_at, omitted
        )

    async def _list_long(
        self,
        located: Located,
        entries: list[ObjectInfo],
        omitted: dict[str, int],
        rest: AsyncIterator[ListPage],
        listed_at: float,
    ) -> Changes:
        entry = located.entry
        merge = CatalogMerge(
            self._thread.writer, entry.id, entry.mount, located.path, recursive=False
        )
        for reason, number in omitted.items():
            merge.omitted[entry.id, reason] += number
        total = Changes.none()

        def on_page(changes: Changes) -> None:
            total.extend(changes)
            self._notify(changes)

        await self._thread.tell(on_page, merge.add, ListPage(entries, []))
        entries.clear()
        await merge_pages(self._thread, merge, rest, on_page)
        await finish_merge(self._thread, merge, listed_at, on_page)
        return total

    async def _missing(
        self, directory: int, error: SourceNotFoundError, *, lenient: bool
    ) -> Changes:
        """The source has no such folder: gone, never there (a mount's path), or the source is."""
        entry = self._check(directory)
        composition = self._thread.writer.composition
        if directory in composition.tops:
            if lenient:  # a bucket or an export that is not there now, not an empty one
                return self._keep(directory, error)
            raise error
        if directory in composition.directories:
            return await self._apply(entry, [], self._clock(), {})
        await self.ensure(entry.parent, 0.0)
        now = self._reader.get(directory)
        if now is not None and now.live:
            raise error
        raise PathNotFoundError(
            f"{_text(self._reader, directory)} is not there any more",
            cure="It was removed at the source.",
        )

    def _keep(self, directory: int, error: SourceError) -> Changes:
        self.failures += 1
        self._retry_at[directory] = self._clock() + min(RETRY_SECONDS, self._ttl)
        located = self._locate(directory)
        _log.warning(
            "mount %s: folder %r could not be listed and is served as it was: %s",
            located.mount.name,
            located.path,
            error,
        )
        return Changes.none()


def _text(reader: CatalogReader, entry_id: int) -> str:
    return "/" + reader.path_of(entry_id).decode("utf-8", "replace")
