"""The reference file system: what sources hold, and the one tree that mounts make of them.

Nothing here knows how fluidpy works. A source is a set of files and folders that somebody else
changes; `expected` says what a user must see.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_serials = itertools.count(1)


class Content(NamedTuple):
    """One version of a file; `serial` tells versions with equal bytes apart."""

    serial: int
    data: bytes


def new_content(size: int) -> Content:
    """Bytes that no other version has, as far as `size` allows."""
    serial = next(_serials)
    return Content(serial, random.Random(serial).randbytes(size))


Tree = dict[str, Content | None]
"""What lies at each path, without a leading slash; None is a folder."""


def ancestors(path: str) -> list[str]:
    """The folders that a path lies in, outermost first, the root left out."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def lies_in(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies below it."""
    return folder == "" or path == folder or path.startswith(folder + "/")


@dataclass
class SourceModel:
    """One source. `keeps_folders`: a folder lives without files, as in a directory."""

    keeps_folders: bool
    files: dict[str, Content] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def tree(self) -> Tree:
        """What the source holds, by its own paths."""
        tree: Tree = dict.fromkeys(self.folders)
        for path, content in self.files.items():
            tree |= dict.fromkeys(ancestors(path))
            tree[path] = content
        return tree

    def put(self, path: str, content: Content) -> None:
        """A file comes to be, in the place of whatever was there or on the way there."""
        self.remove(path)
        self._make_way(path)
        self.files[path] = content

    def remove(self, path: str) -> None:
        """A file, or a folder with all in it, leaves."""
        self.files = {p: c for p, c in self.files.items() if not lies_in(p, path)}
        self.folders = {p for p in self.folders if not lies_in(p, path)}

    def rename(self, old: str, new: str) -> None:
        """A file or folder takes the place of whatever is at `new`."""
        files = {p: c for p, c in self.files.items() if lies_in(p, old)}
        folders = {p for p in self.folders if lies_in(p, old)}
        self.remove(old)
        self.remove(new)
        self._make_way(new)
        self.files |= {new + p[len(old) :]: c for p, c in files.items()}
        self.folders |= {new + p[len(old) :] for p in folders}

    def _make_way(self, path: str) -> None:
        for folder in ancestors(path):
            self.files.pop(folder, None)
            if self.keeps_folders:
                self.folders.add(folder)


def expected(mounts: Sequence[tuple[str, SourceModel]]) -> Tree:
    """The tree of a Dataset: a mount hides what an outer one has at its path.

    Folders on the way to a mount are there whatever the outer source has in their place.
    """
    tops = [path for path, _ in mounts]
    ways = {way for top in tops for way in (*ancestors(top), top)} - {""}
    tree: Tree = dict.fromkeys(ways)
    for top, source in mounts:
        for path, content in source.tree().items():
            full = f"{top}/{path}" if top else path
            owner = max((other for other in tops if lies_in(full, other)), key=len)
            if owner == top and full not in ways:
                tree[full] = content
    return tree


def paths_of(names: str, depth: int) -> Iterator[str]:
    """All paths of up to `depth` names."""
    for length in range(1, depth + 1):
        for parts in itertools.product(names, repeat=length):
            yield "/".join(parts)
