"""An open file whose reads are awaited: fsspec's `open_async`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeAlias

from fluidpy.client.file import DatasetFile

InThread: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]
"""Runs a call in a thread: `await in_thread(call, *arguments)`."""


class AsyncDatasetFile:
    """A `DatasetFile` with awaited `read` and `close`; use it with `async with`."""

    def __init__(self, file: DatasetFile, in_thread: InThread) -> None:
        """Takes over the file."""
        self.file = file
        self.fs = file.fs
        self.path = file.path
        self.mode = file.mode
        self.size = file.size
        self.details = file.details
        self._in_thread = in_thread

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self.file.closed

    async def read(self, length: int | None = -1) -> bytes:
        """The next `length` bytes, or all that are left. Raises as DatasetFile does."""
        data: bytes = await self._in_thread(self.file.read, length)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self.file.tell()

    async def close(self) -> None:
        """Closes the file; harmless when done twice."""
        self.file.close()

    async def __aenter__(self) -> AsyncDatasetFile:
        """The file itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        await self.close()
