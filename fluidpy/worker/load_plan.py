"""What a load has to fetch: the files that its patterns mean, walked in the catalog."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from fluidpy.storage.under_storage import Kind
from fluidpy.worker.path_patterns import compile_patterns

if TYPE_CHECKING:
    from fluidpy.namespace.catalog import CatalogReader, Entry
    from fluidpy.worker.attached_dataset import AttachedDataset

PAGE = 1024
"""Children read from the catalog at once."""


Range: TypeAlias = tuple[int, int]
"""Bytes from, and up to but without."""


class Share(Protocol):
    """What one worker of a pool loads, where all of them together load all."""

    def ranges(self, key: bytes, size: int) -> list[Range]:
        """The ranges of an object to load here."""
        ...


def ranges_of(share: Share | None, dataset: AttachedDataset, entry: Entry) -> list[Range]:
    """The ranges of a file to load: all of it where there is no share."""
    if share is None:
        return [(0, entry.size)]
    return share.ranges(dataset.object_key(entry), entry.size)


class LoadRoot(NamedTuple):
    """A folder to walk, by id and path (without a leading slash)."""

    directory: int
    path: str


class LoadPlan:
    """The files of a load: those below `roots` that match, and single `files`.

    Nothing is kept of the walk, so that a load of millions of files stays small.
    """

    def __init__(self, reader: CatalogReader, patterns: Iterable[str]) -> None:
        """For checked patterns; roots and files are added as they are found."""
        self._reader = reader
        self.patterns = wanted = list(patterns)
        everything = any(pattern in ("", "**") for pattern in wanted)
        self._match: re.Pattern[str] | None = None if everything else compile_patterns(wanted)
        self.roots: list[LoadRoot] = []
        self.files: dict[int, tuple[str, Entry]] = {}

    def walk(self) -> Iterator[tuple[str, Entry]]:
        """Path and entry of each file, folder by folder; symlinks are not followed."""
        yield from self.files.values()
        for root in self.roots:
            yield from self._below(root)

    def _below(self, root: LoadRoot) -> Iterator[tuple[str, Entry]]:
        pending = [root]
        while pending:
            folder = pending.pop()
            prefix = f"{folder.path}/" if folder.path else ""
            for entry in self._children(folder.directory):
                path = prefix + os.fsdecode(entry.name)
                if entry.kind == Kind.DIRECTORY:
                    pending.append(LoadRoot(entry.id, path))
                elif entry.kind == Kind.FILE and self._wanted(path):
                    yield path, entry

    def _wanted(self, path: str) -> bool:
        return self._match is None or self._match.fullmatch(path) is not None

    def _children(self, directory: int) -> Iterator[Entry]:
        after = b""
        while page := self._reader.children(directory, after, PAGE):
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].name
