"""The files of a folder and all below in the order of the tree, from any place in it on; and those
that were there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fluidpy.errors import CacheError
from fluidpy.storage.under_storage import Kind

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import CatalogReader, Entry

PAGE: Final = 1024
"""Children read from the catalog at once."""


def files_below(
    reader: CatalogReader, directory: int, prefix: str = "", after: str = ""
) -> Iterator[tuple[str, Entry]]:
    """Path and entry of each file that the catalog knows; symlinks are not followed.

    `prefix` is the folder's own path, "" or with a slash at its end. A folder's children come in
    the order of their names (bytes), a folder with all below it in its place. `after` is a path in
    the folder: only what comes later is given, whether or not it is still there.
    """
    stack: list[tuple[str, Iterator[Entry]]] = []
    for name in os.fsencode(after).split(b"/"):
        stack.append((prefix, _children(reader, directory, name)))
        inner = reader.lookup(directory, name) if name else None
        if inner is None or inner.kind != Kind.DIRECTORY:
            break
        directory, prefix = inner.id, f"{prefix}{os.fsdecode(name)}/"
    while stack:
        prefix, children = stack[-1]
        entry = next(children, None)
        if entry is None:
            stack.pop()
        elif entry.kind == Kind.DIRECTORY:
            below = f"{prefix}{os.fsdecode(entry.name)}/"
            stack.append((below, _children(reader, entry.id, b"")))
        elif entry.kind == Kind.FILE:
            yield prefix + os.fsdecode(entry.name), entry


def retired_files_below(reader: CatalogReader, path: str) -> Iterator[Entry]:
    """Versions of files at or below a path (no slash at its ends) that are not shown any more.

    The catalog knows them for about a day. In no particular order.
    """
    top = os.fsencode(path)
    folders: dict[int, bytes | None] = {}
    page, position = reader.retired_files(limit=PAGE)
    while page:
        for entry in page:
            if entry.parent not in folders:
                folders[entry.parent] = _path_of(reader, entry.parent)
            folder = folders[entry.parent]
            if folder is not None and _lies_in(folder, entry.name, top):
                yield entry
        page, position = reader.retired_files(position, PAGE)


def _path_of(reader: CatalogReader, directory: int) -> bytes | None:
    """A folder's path; None when the catalog has forgotten it or a folder on the way."""
    try:
        return reader.path_of(directory)
    except CacheError:
        return None


def _lies_in(folder: bytes, name: bytes, top: bytes) -> bool:
    path = folder + b"/" + name if folder else name
    return not top or path == top or path.startswith(top + b"/")


def _children(reader: CatalogReader, directory: int, after: bytes) -> Iterator[Entry]:
    while page := reader.children(directory, after, PAGE):
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].name
