"""A source in memory whose reads wait until the test lets them go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fluidpy.errors import SourceError
from fluidpy.storage.under_storage import Kind, ListPage, ObjectInfo


class HeldStorage:
    """One file `f`; `held` says whether reads wait for `let_go` or `fail`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.held = False
        self.reads: list[tuple[int, int]] = []
        self.waiting: list[tuple[tuple[int, int], asyncio.Future[None]]] = []
        self.arrived = asyncio.Event()
        self.short_by = 0
        self.closed = False
        self.source_id = "memory"
        self.identity = b"nobody"

    async def stat(self, path: str) -> ObjectInfo:
        return ObjectInfo(path, Kind.FILE, len(self.data), 0, b"1")

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        yield ListPage([ObjectInfo("f", Kind.FILE, len(self.data), 0, b"1")], [])

    async def walk(self, path: str) -> AsyncIterator[ListPage]:
        yield ListPage([ObjectInfo("f", Kind.FILE, len(self.data), 0, b"1")], [])

    async def read(self, path: str, start: int, end: int, version: bytes) -> bytes:
        self.reads.append((start, end))
        if self.held:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(((start, end), future))
            self.arrived.set()
            await future
        return self.data[start : end - self.short_by]

    async def asked(self, number: int) -> None:
        """Waits until so many reads have come in altogether."""
        while len(self.reads) < number:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 60)

    def let_go(self) -> None:
        """All reads that wait, and all to come, go on."""
        self.held = False
        for _, future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()

    def fail(self, error: SourceError) -> None:
        """All reads that wait fail."""
        for _, future in self.waiting:
            if not future.done():
                future.set_exception(error)
        self.waiting.clear()

    async def close(self) -> None:
        self.closed = True
