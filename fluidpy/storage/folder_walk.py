"""A walk made of listings, for sources that cannot list a whole tree in one go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from fluidpy.storage.under_storage import Kind, ListPage

ListFolder = Callable[[str], AsyncIterator[ListPage]]


async def walk_by_folders(list_folder: ListFolder, path: str) -> AsyncIterator[ListPage]:
    """The pages of the folder at `path` and of all folders below it, one after the other."""
    todo = [path]
    while todo:
        async for page in list_folder(todo.pop()):
            todo += [entry.path for entry in page.entries if entry.kind is Kind.DIRECTORY]
            yield page
