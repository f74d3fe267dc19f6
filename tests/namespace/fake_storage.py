"""A source in memory whose files the tests change, with what goes wrong on order."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from fluidpy.errors import SourceError, SourceNotFoundError
from fluidpy.storage.under_storage import Buffer, Kind, ListPage, ObjectInfo, OmittedKey


def file(path: str, version: int = 1, size: int = 10) -> ObjectInfo:
    return ObjectInfo(path, Kind.FILE, size, version * 10**9, str(version).encode())


@dataclass
class FakeStorage:
    """An object store: folders are implied by the paths of files."""

    files: dict[str, ObjectInfo] = field(default_factory=dict)
    omitted: list[OmittedKey] = field(default_factory=list)
    source_id: str = "fake://bucket"
    identity: bytes = b"me"
    page: int = 3
    error: SourceError | None = None
    error_after: int = 10**9
    requests: list[str] = field(default_factory=list)
    closed: bool = False
    strict: bool = False
    """Whether a folder without files is missing, as on a NAS."""

    def put(self, *infos: ObjectInfo) -> None:
        self.files.update({info.path: info for info in infos})

    def _keys(self, path: str) -> list[str]:
        prefix = path + "/" if path else ""
        return sorted(key for key in self.files if key.startswith(prefix))

    async def stat(self, path: str) -> ObjectInfo:
        if path in self.files:
            return self.files[path]
        if self._keys(path):
            return ObjectInfo(path, Kind.DIRECTORY)
        raise SourceNotFoundError(f"{path} is not there")

    async def _pages(self, infos: Iterable[ObjectInfo]) -> AsyncIterator[ListPage]:
        page = ListPage([], list(self.omitted))
        for number, info in enumerate(infos):
            if self.error is not None and number >= self.error_after:
                raise self.error
            page.entries.append(info)
            if len(page.entries) >= self.page:
                yield page
                page = ListPage([], [])
        if self.error is not None:
            raise self.error
        yield page

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        self.requests.append(f"list {path}")
        if self.error is not None and self.error_after > 10**8:
            raise self.error
        keys = self._keys(path)
        if not keys and self.strict:
            raise SourceNotFoundError(f"{path} is not there")
        skip = len(path) + 1 if path else 0
        found: dict[tuple[str, bool], ObjectInfo] = {}
        for key in keys:
            name, slash, _ = key[skip:].partition("/")
            child = f"{path}/{name}" if path else name
            info = ObjectInfo(child, Kind.DIRECTORY) if slash else self.files[key]
            found[name, bool(slash)] = info
        async for page in self._pages(found.values()):
            yield page

    async def walk(self, path: str) -> AsyncIterator[ListPage]:
        self.requests.append(f"walk {path}")
        async for page in self._pages([self.files[key] for key in self._keys(path)]):
            yield page

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        return os.urandom(end - start)

    async def close(self) -> None:
        self.closed = True
