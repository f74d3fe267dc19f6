"""The base of decorators: an `UnderStorage` that hands everything to another one."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fluidpy.storage.under_storage import (
    Buffer,
    ListPage,
    ObjectInfo,
    StreamingStorage,
    TakePiece,
    UnderStorage,
)


class WrappingStorage:
    """Delegates all calls; a decorator overrides those it changes."""

    def __init__(self, inner: UnderStorage) -> None:
        """Stands in front of `inner`, which it owns and closes."""
        self.inner = inner
        self._streams = inner if isinstance(inner, StreamingStorage) else None

    @property
    def source_id(self) -> str:
        """That of the storage within."""
        return self.inner.source_id

    @property
    def identity(self) -> bytes:
        """That of the storage within."""
        return self.inner.identity

    async def stat(self, path: str) -> ObjectInfo:
        """As the storage within."""
        return await self.inner.stat(path)

    def list(self, path: str) -> AsyncIterator[ListPage]:
        """As the storage within."""
        return self.inner.list(path)

    def walk(self, path: str) -> AsyncIterator[ListPage]:
        """As the storage within."""
        return self.inner.walk(path)

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """As the storage within."""
        return await self.inner.read(path, start, end, version)

    @property
    def gives_pieces(self) -> bool:
        """As the storage within."""
        return self._streams is not None and self._streams.gives_pieces

    async def read_pieces(
        self, path: str, start: int, end: int, version: bytes, piece_bytes: int, take: TakePiece
    ) -> None:
        """As the storage within, which must have it (`gives_pieces`)."""
        assert self._streams is not None
        await self._streams.read_pieces(path, start, end, version, piece_bytes, take)

    async def close(self) -> None:
        """Closes the storage within."""
        await self.inner.close()
