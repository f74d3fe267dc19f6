"""A decorator that tries failed requests again, by kind of error, under a deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.under_storage import Buffer, ListPage, ObjectInfo, TakePiece, UnderStorage
from fluidpy.storage.wrapping import WrappingStorage


class RetryingStorage(WrappingStorage):
    """Applies a `RetryPolicy` to reads, stats and the pages of listings.

    A listing is started again only while it gave no page yet, since pages once given cannot be
    taken back; each further page has the deadline for itself. A driver that retries its own pages
    says so by a true `retries_listings`.
    """

    def __init__(self, inner: UnderStorage, policy: RetryPolicy) -> None:
        """Stands in front of `inner`."""
        super().__init__(inner)
        self._policy = policy
        self._lists_itself = bool(getattr(inner, "retries_listings", False))

    async def stat(self, path: str) -> ObjectInfo:
        """The entry at `path`, asked for until the policy gives up."""
        return await self._policy.run(lambda: self.inner.stat(path), f"looking at {path or '/'}")

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes, asked for until the policy gives up."""
        return await self._policy.run(
            lambda: self.inner.read(path, start, end, version), f"reading {path}"
        )

    async def read_pieces(
        self, path: str, start: int, end: int, version: bytes, piece_bytes: int, take: TakePiece
    ) -> None:
        """The pieces, from the first one again after each failure."""
        read = super().read_pieces
        await self._policy.run(
            lambda: read(path, start, end, version, piece_bytes, take), f"reading {path}"
        )

    def list(self, path: str) -> AsyncIterator[ListPage]:
        """The children of a folder."""
        if self._lists_itself:
            return self.inner.list(path)
        return self._pages(lambda: self.inner.list(path), f"listing {path or '/'}")

    def walk(self, path: str) -> AsyncIterator[ListPage]:
        """All below a folder."""
        if self._lists_itself:
            return self.inner.walk(path)
        return self._pages(lambda: self.inner.walk(path), f"listing all below {path or '/'}")

    async def _pages(
        self, start: Callable[[], AsyncIterator[ListPage]], doing: str
    ) -> AsyncIterator[ListPage]:
        pages = start()

        async def first() -> ListPage | None:
            nonlocal pages
            pages = start()
            return await anext(pages, None)

        async def following() -> ListPage | None:
            return await anext(pages, None)

        page = await self._policy.run(first, doing)
        once = self._policy.without_retries()
        while page is not None:
            yield page
            page = await once.run(following, doing)
