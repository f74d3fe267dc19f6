"""From a row of the catalog to the key of its bytes in the cache, outside of the worker.

A key is made of the source, the identity that reads it, the path in the source and the version. The
last two are in the catalog; the first two are known by the worker, which opened the source, and
told to whoever attaches, as one `KeySource` a mount. Neither is a secret: an identity is a digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fluidpy.namespace.cache_keys import CacheKeys
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.storage.under_storage import may_be_kept

FOLDERS_REMEMBERED: Final = 4096
"""Folders whose path is remembered; they are forgotten all at once when there are more."""


class KeySource(NamedTuple):
    """What the keys of one mount have in common.

    `tag` names the mount as the catalog has it (`CatalogReader.mount_tag`): by where it lies in the
    Dataset, its URL and options. `path` is where it lies, `/` or `/a/b`.
    """

    tag: str
    path: str
    source_id: str
    identity: bytes

    def to_wire(self) -> list[str]:
        """Plain JSON values."""
        return [self.tag, self.path, self.source_id, self.identity.hex()]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> KeySource:
        """What `to_wire` described. Raises ValueError, TypeError for anything else."""
        tag, path, source_id, identity = wire
        return cls(str(tag), str(path), str(source_id), bytes.fromhex(identity))


class KeyedEntry(Protocol):
    """What a key needs of an entry of the catalog."""

    @property
    def parent(self) -> int:
        """The row of its folder."""

    @property
    def name(self) -> bytes:
        """Its name."""

    @property
    def version(self) -> bytes:
        """Its version; empty where the source has none."""

    @property
    def mount(self) -> int:
        """The number of its mount."""


class ObjectKeys:
    """The keys of a Dataset's files as its `reader` shows them. One thread at a time.

    Should the Dataset be defined anew meanwhile, keys of mounts that changed are None from then on.
    """

    def __init__(self, reader: CatalogReader, sources: Iterable[KeySource]) -> None:
        """`sources` are those that `attach` answered; the reader stays the caller's."""
        self.reader = reader
        self._sources = {
            source.tag: (
                CacheKeys(source.source_id, source.identity),
                sum(1 for part in source.path.split("/") if part),
            )
            for source in sources
        }
        self._folders: dict[tuple[int, str], tuple[CacheKeys, bytes]] = {}

    def key_of(self, entry: KeyedEntry) -> bytes | None:
        """The key of the cache for these bytes as this user reads them; about 7 µs.

        None for what is never kept (no version, a volatile one), and what lies in no known mount.
        Raises CacheError when the catalog fails, or has purged the entry's folder.
        """
        if not may_be_kept(entry.version):
            return None
        tag = self.reader.mount_tag(entry.mount)
        return None if tag is None else self.key_in(tag, entry.parent, entry.name, entry.version)

    def key_in(self, tag: str, folder: int, name: bytes, version: bytes) -> bytes | None:
        """As `key_of`, where the mount's tag is known: of a file in the folder of that row."""
        if not may_be_kept(version):
            return None
        found = self._folders.get((folder, tag))
        if found is None:
            source = self._sources.get(tag)
            if source is None:
                return None
            keys, depth = source
            names = self.reader.path_of(folder).split(b"/")[depth:]
            found = keys, b"".join(name + b"/" for name in names if name)
            if len(self._folders) >= FOLDERS_REMEMBERED:
                self._folders.clear()
            self._folders[folder, tag] = found
        keys, prefix = found
        return keys.key(prefix + name, version)
