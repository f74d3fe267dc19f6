"""The files of a folder and all below in the order of the tree, from any place in it on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

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


def _children(reader: CatalogReader, directory: int, after: bytes) -> Iterator[Entry]:
    while page := reader.children(directory, after, PAGE):
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].name
