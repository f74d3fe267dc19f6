"""Directories of this machine: a NAS, a host directory, a claim's directory.

Forms: an absolute path, `local:///directory`, `file:///directory`. `mounted:///directory` is where
the client of another file system mounts: see `local_files.Root`.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from fluidpy.errors import SourceConfigurationError, SourceError, SourceNotFoundError
from fluidpy.storage import local_files
from fluidpy.storage.blocking_calls import BlockingCalls
from fluidpy.storage.local_files import Root
from fluidpy.storage.under_storage import (
    Buffer,
    ListPage,
    MountSource,
    ObjectInfo,
    identity_digest,
)

T = TypeVar("T")

PAGE_ENTRIES = 10_000
"""Entries a page: one visit of a thread, about 20 ms."""


class LocalStorage:
    """An `UnderStorage` over one directory; blocking calls run in threads with a deadline."""

    def __init__(
        self,
        directory: str,
        label: str,
        *,
        threads: int,
        deadline_seconds: float,
        mounted_as: str | None = None,
    ) -> None:
        """`directory` is absolute; nothing is opened yet.

        `mounted_as` says that another file system is mounted there, and names what it shows.
        """
        self._root = Root(directory, mounted=mounted_as is not None)
        self._mounted_as = mounted_as
        self._calls = BlockingCalls(label, threads, deadline_seconds)

    @property
    def source_id(self) -> str:
        """The directory's path, and what is mounted there."""
        if self._mounted_as is not None:
            return f"mounted:{self._root.directory}:{self._mounted_as}"
        return f"local:{self._root.directory}"

    @property
    def identity(self) -> bytes:
        """A digest of the user who reads."""
        return identity_digest("uid", str(os.geteuid()), str(os.getegid()))

    async def stat(self, path: str) -> ObjectInfo:
        """The entry at `path`, a symlink itself and not its target."""
        root = self._root
        return await self._run(path, lambda: local_files.stat_below(root, path, time.time_ns()))

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        """The children of a folder."""
        pages = local_files.pages_of_folder(self._root, path, time.time_ns(), PAGE_ENTRIES)
        async for page in self._pages(path, pages):
            yield page

    async def walk(self, path: str) -> AsyncIterator[ListPage]:
        """All below a folder, folders among it; symlinks are shown, not followed."""
        pages = local_files.pages_of_tree(self._root, path, time.time_ns(), PAGE_ENTRIES)
        async for page in self._pages(path, pages):
            yield page

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes `[start, end)`; the file is looked at before and after."""
        if end <= start:
            return b""
        root, shown = self._root, self._shown(path)
        return await self._run(
            path, lambda: local_files.read_below(root, path, start, end, version, shown)
        )

    async def _pages(self, path: str, pages: Iterator[ListPage]) -> AsyncIterator[ListPage]:
        while (page := await self._run(path, lambda: next(pages, None))) is not None:
            yield page

    async def _run(self, path: str, call: Callable[[], T]) -> T:
        try:
            return await self._calls.run(f"reading {self._shown(path)}", call)
        except OSError as error:
            if isinstance(error, SourceError):
                raise
            if not path and (useless := _useless_root(error, self._root.directory)) is not None:
                raise useless from error
            raise local_files.error_of_os(error, self._shown(path)) from error

    def _shown(self, path: str) -> str:
        root = self._root.directory
        shown = f"{root}/{path}" if path else root
        return shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    async def close(self) -> None:
        """Ends the threads."""
        self._calls.close()


def _useless_root(error: OSError, root: str) -> SourceNotFoundError | None:
    """The error for a mount's own directory that is missing or none; None for other causes."""
    if error.errno == errno.ENOENT:
        return SourceNotFoundError(
            f"the directory {root} is not there",
            cure="Check mountPoint, and that its file system is mounted on this machine.",
        )
    if error.errno == errno.ENOTDIR:
        return SourceNotFoundError(
            f"{root} is a file, not a directory", cure="Give the directory that holds it."
        )
    return None


def directory_of(source: MountSource) -> str:
    """The absolute directory a mount names. Raises SourceConfigurationError for other forms."""
    _, separator, rest = source.url.partition("://")
    path = (unquote(rest) if source.scheme == "file" else rest) if separator else source.url
    if source.scheme == "file" and path.startswith("localhost/"):
        path = path.removeprefix("localhost")
    if not path.startswith("/"):
        raise SourceConfigurationError(
            f"mount {source.label or source.url}: {source.url} is not an absolute path",
            cure="Write /DIRECTORY or local:///DIRECTORY.",
        )
    return os.path.normpath(str(Path(path)))
