"""Keys of an object store as entries of folders, in pages; pure.

Servers answer in the order of the keys' bytes, so a key that is also a folder (`a` and `a/b`) is
followed at once by the keys that start with it: only those at the end of a page need wait for the
next. A server that answers in another order may show such a pair as both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from fluidpy.storage.etag_codec import encode_etag
from fluidpy.storage.object_keys import FILE_AND_FOLDER, MARKER_WITH_BYTES, omission
from fluidpy.storage.s3_list_xml import RawObject, RawPage
from fluidpy.storage.under_storage import Kind, ListPage, ObjectInfo, OmittedKey


class KeyFolder:
    """Turns the raw pages of one listing into pages of entries.

    `root` is the mount's own prefix (`""` or ending in a slash), taken off every path; `prefix` is
    what is listed, the marker of which (`prefix` itself as a key) is no entry.
    """

    def __init__(self, root: str, prefix: str) -> None:
        """Feeds start from nothing."""
        self._cut = len(root)
        self._prefix = prefix
        self._waiting: list[RawObject] = []

    def feed(self, page: RawPage) -> ListPage:
        """The entries that are certain after this page."""
        last = not page.next_token
        objects = [*self._waiting, *page.objects] if self._waiting else page.objects
        clashes = _folders_among(objects, page.prefixes)
        self._waiting = [] if last else _undecided(objects, page.prefixes, clashes)
        held = {item.key for item in self._waiting}
        entries, omitted = self._split(objects, held, clashes)
        self._add_folders(page.prefixes, entries, omitted)
        return ListPage(entries, omitted)

    def _split(
        self, objects: Iterable[RawObject], held: set[str], clashes: set[str]
    ) -> tuple[list[ObjectInfo], list[OmittedKey]]:
        entries: list[ObjectInfo] = []
        omitted: list[OmittedKey] = []
        new, file, cut = tuple.__new__, Kind.FILE, self._cut
        for item in objects:
            key, size, mtime_ns, etag = item
            path = key[cut:]
            if key in held:
                continue
            if key[-1:] == "/" or omission(path) or key in clashes:
                self._odd(item, entries, omitted)
            else:
                version = encode_etag(etag)
                row = (path, file, size, mtime_ns, version, None, None)
                entries.append(new(ObjectInfo, row))
        return entries, omitted

    def _odd(self, item: RawObject, entries: list[ObjectInfo], omitted: list[OmittedKey]) -> None:
        key, path = item.key, item.key[self._cut :]
        if not key.endswith("/"):
            omitted.append(OmittedKey(key, omission(path) or FILE_AND_FOLDER))
            return
        if key == self._prefix:
            if item.size:
                omitted.append(OmittedKey(key, MARKER_WITH_BYTES))
            return
        if reason := omission(path[:-1]):
            omitted.append(OmittedKey(key, reason))
            return
        entries.append(ObjectInfo(path[:-1], Kind.DIRECTORY, mtime_ns=item.mtime_ns))
        if item.size:
            omitted.append(OmittedKey(key, MARKER_WITH_BYTES))

    def _add_folders(
        self, prefixes: Iterable[str], entries: list[ObjectInfo], omitted: list[OmittedKey]
    ) -> None:
        for prefix in prefixes:
            path = prefix[self._cut : -1]
            if reason := omission(path):
                omitted.append(OmittedKey(prefix, reason))
            else:
                entries.append(ObjectInfo(path, Kind.DIRECTORY))


def _undecided(objects: list[RawObject], prefixes: list[str], clashes: set[str]) -> list[RawObject]:
    """The objects that a key of the next page may yet turn into folders."""
    last = max([*prefixes[-1:], *(item.key for item in objects[-1:])], default="")
    return [
        item
        for item in objects
        if last.startswith(item.key) and item.key[-1:] != "/" and item.key not in clashes
    ]


def _folders_among(objects: list[RawObject], prefixes: list[str]) -> set[str]:
    """The keys that are files and, by a prefix or another key, folders too."""
    found = {prefix[:-1] for prefix in prefixes}
    keys = [item.key for item in objects]
    for position, (key, following) in enumerate(itertools.pairwise(keys)):
        if following.startswith(key) and key[-1:] != "/":
            found.update(_folder_from(keys, position))
    return found


def _folder_from(keys: list[str], position: int) -> Iterable[str]:
    key = keys[position]
    folder = key + "/"
    for later in keys[position + 1 :]:
        if later.startswith(folder):
            return (key,)
        if not later.startswith(key):
            break
    return ()
