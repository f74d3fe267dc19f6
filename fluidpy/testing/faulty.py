"""A storage that fails when told to, for tests of what stands on storages.

storage = FaultyStorage(inner)
storage.script(Break("read", "train/*", SourceUnavailableError("gone"), times=2))
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from fluidpy.errors import SourceError
from fluidpy.storage.under_storage import Buffer, ListPage, ObjectInfo, UnderStorage
from fluidpy.storage.wrapping import WrappingStorage

Hook = Callable[[str, str], Awaitable[None]]
"""Awaited before each call with its name (`stat`, `list`, `walk`, `read`) and path."""


@dataclass(frozen=True)
class Break:
    """What goes wrong with calls of a name (`*` for all) and a path (shell pattern)."""

    call: str = "read"
    path: str = "*"
    error: SourceError | None = None
    """Raised instead of an answer."""
    times: int = 1
    """How many calls it harms; 0 means all."""
    delay_seconds: float = 0.0
    """Waited before the call."""
    short_by: int = 0
    """A read answers so many bytes less, which no driver may do."""
    version: bytes | None = None
    """A stat answers this version."""


class FaultyStorage(WrappingStorage):
    """Delegates to another storage, by a script."""

    def __init__(self, inner: UnderStorage, hook: Hook | None = None) -> None:
        """`hook` is awaited before every call; what it raises, the call raises."""
        super().__init__(inner)
        self.calls: list[tuple[str, str]] = []
        """The calls so far: name and path."""
        self._hook = hook
        self._script: list[tuple[Break, list[int]]] = []

    @property
    def gives_pieces(self) -> bool:
        """No: every read goes through `read`, which the script harms."""
        return False

    def script(self, *breaks: Break) -> None:
        """Adds to the script; each call takes the first break that fits and has uses left."""
        self._script += [(entry, [0]) for entry in breaks]

    async def _enter(self, call: str, path: str) -> Break:
        self.calls.append((call, path))
        if self._hook is not None:
            await self._hook(call, path)
        for entry, used in self._script:
            fits = entry.call in ("*", call) and fnmatch.fnmatchcase(path, entry.path)
            if fits and (not entry.times or used[0] < entry.times):
                used[0] += 1
                if entry.delay_seconds:
                    await asyncio.sleep(entry.delay_seconds)
                if entry.error is not None:
                    raise entry.error
                return entry
        return Break()

    async def stat(self, path: str) -> ObjectInfo:
        """As the storage within, unless the script says otherwise."""
        entry = await self._enter("stat", path)
        info = await self.inner.stat(path)
        return info if entry.version is None else info._replace(version=entry.version)

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        """As the storage within, unless the script says otherwise."""
        await self._enter("list", path)
        async for page in self.inner.list(path):
            yield page

    async def walk(self, path: str) -> AsyncIterator[ListPage]:
        """As the storage within, unless the script says otherwise."""
        await self._enter("walk", path)
        async for page in self.inner.walk(path):
            yield page

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """As the storage within, unless the script says otherwise."""
        entry = await self._enter("read", path)
        return await self.inner.read(path, start, end - entry.short_by, version)
