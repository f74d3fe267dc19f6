"""A store of one's own: an fsspec class of a few lines, and slow on purpose, like a tape archive.

fluidpy reads any installed fsspec protocol; this one is `archive://`. It knows nothing of fluidpy.
"""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem


class ArchiveFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Reads files below a directory, no faster than `bytes_per_second` over all readers."""

    protocol: ClassVar[str] = "archive"
    root_marker = "/"
    _turn: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, bytes_per_second: int | str = 10_000_000, **options: Any) -> None:
        super().__init__(use_listings_cache=False, **options)
        self.bytes_per_second = int(bytes_per_second)
        self._disk = LocalFileSystem()

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The entries of a folder, with size and time of change."""
        found = self._disk.ls(self._strip_protocol(path), detail=True)
        return found if detail else [entry["name"] for entry in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """One entry."""
        entry: dict[str, Any] = self._disk.info(self._strip_protocol(path))
        return entry

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The bytes `[start, end)`, after the time that the archive takes for them."""
        data: bytes = self._disk.cat_file(self._strip_protocol(path), start, end)
        with self._turn:
            time.sleep(len(data) / self.bytes_per_second)
        return data
