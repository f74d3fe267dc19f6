"""The seam between fluidpy and every store that holds training data.

A driver is one object with five coroutines. It reads only; paths are relative to the mount's root,
without a leading slash, with `/` between parts, and `""` is the root. Names that are not UTF-8
(possible on a NAS) travel as `str` with surrogateescape, as `os.fsdecode` makes them.

Errors a driver raises are those of `fluidpy.errors` under `SourceError`; nothing else may leave it.
"""

from __future__ import annotations

import hashlib
import stat as stat_module
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

Buffer: TypeAlias = Any
"""Bytes-like: anything `memoryview` accepts (PEP 688's `Buffer` needs Python 3.12)."""


VOLATILE = b"volatile:"
"""How a volatile version begins. A lasting one that does so by chance would only not be kept."""


def volatile(version: bytes) -> bytes:
    """The volatile version that a read checks as `version` (55 bytes at most)."""
    return VOLATILE + version


def is_volatile(version: bytes) -> bool:
    """Whether the version is one to check and not to keep; see `ObjectInfo`."""
    return version.startswith(VOLATILE)


def may_be_kept(version: bytes) -> bool:
    """Whether bytes of that version may be cached: there is one, and it lasts."""
    return bool(version) and not version.startswith(VOLATILE)


class Kind(IntEnum):
    """What a path is."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class ObjectInfo(NamedTuple):
    """One path of a source at one moment.

    `version` names the bytes: two reads under the same path and version give the same bytes. It is
    opaque, at most 64 bytes; `b""` means the source cannot tell versions apart (such bytes are
    served and never kept) or that the path is a directory. A *volatile* version (`volatile`) is
    checked by each read like any other, and its bytes are served and never kept: the source cannot
    be sure yet that a later change will show, as when a file changed a moment ago. It is looked at
    again soon and has another version then.
    `mode` is the permission bits where the source has them, else None. `target` is a symlink's.
    """

    path: str
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    version: bytes = b""
    mode: int | None = None
    target: str | None = None


class OmittedKey(NamedTuple):
    """A key of the source that no file system can show, and why (`reason` is a short constant)."""

    key: str
    reason: str


class ListPage(NamedTuple):
    """A piece of a listing: what can be shown, and what had to be left out."""

    entries: list[ObjectInfo]
    omitted: list[OmittedKey]


@runtime_checkable
class UnderStorage(Protocol):
    """A store that holds training data, seen from one mount."""

    @property
    def source_id(self) -> str:
        """Endpoint, bucket and prefix as one stable text without secrets; part of cache keys."""
        ...

    @property
    def identity(self) -> bytes:
        """A digest of the identity that reads (`identity_digest`); part of each cache key."""
        ...

    async def stat(self, path: str) -> ObjectInfo:
        """The entry at `path`. Raises SourceNotFoundError when there is neither file nor folder."""
        ...

    def list(self, path: str) -> AsyncIterator[ListPage]:
        """The direct children of the folder `path`, in pages, each child once, in any order.

        Raises SourceNotFoundError when a folder cannot be there (an object store's empty prefix
        may list as empty).
        """
        ...

    def walk(self, path: str) -> AsyncIterator[ListPage]:
        """All files and symlinks below `path`, in pages; folders only where the source keeps them.

        As few requests as the source allows: an object store lists flat.
        """
        ...

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """Exactly the bytes `[start, end)` of that version.

        Raises SourceChangedError when the object is another version by now; a short answer is an
        error, never returned. `version` of `b""` reads whatever is there; a volatile one is
        checked.
        """
        ...

    async def close(self) -> None:
        """Ends connections; later calls are undefined."""
        ...


TakePiece: TypeAlias = Callable[[int, memoryview], None]
"""Takes the bytes that lie at an offset of the object; they are valid during the call only."""


@runtime_checkable
class StreamingStorage(UnderStorage, Protocol):
    """A store that can hand a range over piece by piece, out of a buffer that it uses again."""

    @property
    def gives_pieces(self) -> bool:
        """Whether `read_pieces` is the better way to read large ranges of this mount."""
        ...

    async def read_pieces(
        self, path: str, start: int, end: int, version: bytes, piece_bytes: int, take: TakePiece
    ) -> None:
        """Hands exactly `[start, end)` of that version to `take`: `piece_bytes` each, in order.

        `take` is called in another thread, never after this has returned or raised. After an error
        some pieces may have been taken, and a retry begins at `start` again. Raises as `read`, and
        whatever `take` raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class MountSource:
    """Where one mount's data lies, with options and secrets resolved to plain values.

    `secrets` is never shown: not by repr, not in errors, not in logs. `label` is what error
    messages call the mount (its name, or the URL).
    """

    url: str
    label: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def scheme(self) -> str:
        """The URL's scheme in lower case; `local` for an absolute path."""
        head, separator, _ = self.url.partition("://")
        return head.lower() if separator else "local"

    def to_wire(self) -> dict[str, Any]:
        """Plain values for a private message to the worker; holds the secrets."""
        return {
            "url": self.url,
            "label": self.label,
            "options": dict(self.options),
            "secrets": dict(self.secrets),
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> MountSource:
        """The source that `to_wire` described."""
        return cls(wire["url"], wire["label"], dict(wire["options"]), dict(wire["secrets"]))


def identity_digest(*parts: str) -> bytes:
    """16 bytes that stand for who reads: access key id and secret, user, ….

    The parts cannot be told from it.
    """
    digest = hashlib.blake2b(digest_size=16, person=b"fluidpy-identity")
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part.encode("utf-8", "surrogateescape"))
    return digest.digest()


def kind_of_mode(mode: int) -> Kind | None:
    """The kind for an `st_mode`; None for devices, sockets and pipes, which are not shown."""
    if stat_module.S_ISREG(mode):
        return Kind.FILE
    if stat_module.S_ISDIR(mode):
        return Kind.DIRECTORY
    if stat_module.S_ISLNK(mode):
        return Kind.SYMLINK
    return None
