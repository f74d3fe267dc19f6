"""Following symlinks at the end of a path; the worker follows those on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from fluidpy.cache.fork_safety import SQLITE_LOCK
from fluidpy.client.protocol import RemoteEntry
from fluidpy.errors import PathNotFoundError

MAX_LINKS: Final = 40
"""Symlinks followed in one path, as Linux does (MAXSYMLINKS in include/linux/namei.h)."""

SYMLINK: Final = 3
"""`Kind.SYMLINK` of the under storages."""


def target_path(link: str, target: str) -> str:
    """Where a symlink at the path `link` points, in the Dataset.

    Raises PathNotFoundError for an absolute target: that is outside.
    """
    if target.startswith("/"):
        raise PathNotFoundError(
            f"{link} is a symlink that points out of the Dataset",
            cure="Name the file it points to by a path in the Dataset.",
        )
    folder = link.strip("/").rpartition("/")[0]
    return f"{folder}/{target}" if folder else target


def follow(
    path: str,
    resolve: Callable[[str], RemoteEntry],
    read_link: Callable[[RemoteEntry], str],
) -> RemoteEntry:
    """What lies at the end of the symlinks at `path`. Raises PathNotFoundError, also for loops."""
    shown = path
    for _ in range(MAX_LINKS):
        entry = resolve(path)
        if entry.kind != SYMLINK:
            return entry
        path = target_path(path, read_link(entry))
    raise PathNotFoundError(f"{shown} is a loop of symlinks", cure="Mend the links at the source.")


def read_link_of(catalog: str) -> Callable[[RemoteEntry], str]:
    """Reads where a symlink points from the catalog at that path."""

    def read_link(entry: RemoteEntry) -> str:
        from fluidpy.namespace.catalog import CatalogReader

        with SQLITE_LOCK, closing(CatalogReader(Path(catalog))) as reader:
            return os.fsdecode(reader.target_of(entry.id))

    return read_link
