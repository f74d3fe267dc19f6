"""The async half of the file system: each coroutine runs its sync twin in a thread.

Threads, and not a connection of each loop, so that any running loop will do and nothing is tied to
one. The pools are made on first use.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

THREADS: Final = 32
"""Threads of each pool: they keep two mounts with 16 requests at once each busy."""

_Value = TypeVar("_Value")


class ThreadPools:
    """Pools by purpose, so that calls that wait for reads cannot take the threads of the reads.

    A fork copies pools without their threads: the child makes its own.
    """

    def __init__(self) -> None:
        """No thread is started yet."""
        self._start_over()

    def _start_over(self) -> None:
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def get(self, purpose: str) -> ThreadPoolExecutor:
        """The pool of that purpose; its threads end with the interpreter."""
        from concurrent.futures import ThreadPoolExecutor

        if self._pid != os.getpid():
            self._start_over()
        with self._lock:
            pool = self._pools.get(purpose)
            if pool is None:
                pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"fluid-{purpose}")
                self._pools[purpose] = pool
            return pool


class Awaited:
    """A mix-in for a file system with sync methods: their async twins, as fsspec names them."""

    _pools: ThreadPools
    walk: Callable[..., Iterator[Any]]

    async def _in_thread(self, call: Callable[..., _Value], *args: Any, **kwargs: Any) -> _Value:
        self._renew_after_fork()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pools.get("call"), partial(call, *args, **kwargs))

    def _renew_after_fork(self) -> None:
        raise NotImplementedError

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await self._in_thread(getattr(self, method), *args, **kwargs)

    async def _info(self, path: str, **kwargs: Any) -> Any:
        return await self._call("info", path, **kwargs)

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return await self._call("ls", path, detail, **kwargs)

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        return await self._call("find", path, maxdepth, withdirs, **kwargs)

    async def _walk(
        self,
        path: Any,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """As `walk`; a callable `on_error` is called in the loop, before what is walked next."""
        errors: list[OSError] = []
        told = errors.append if callable(on_error) else on_error
        steps = self.walk(path, maxdepth, topdown, told, **kwargs)
        while True:
            step = await self._in_thread(next, steps, None)
            for error in errors:
                on_error(error)
            errors.clear()
            if step is None:
                return
            yield step

    async def _exists(self, path: str, **kwargs: Any) -> Any:
        return await self._call("exists", path, **kwargs)

    async def _isfile(self, path: str) -> Any:
        return await self._call("isfile", path)

    async def _isdir(self, path: str) -> Any:
        return await self._call("isdir", path)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        return await self._call("cat_file", path, start, end, **kwargs)

    async def _cat(self, path: Any, recursive: bool = False, **kwargs: Any) -> Any:
        return await self._call("cat", path, recursive, **kwargs)

    async def _cat_ranges(self, paths: Any, starts: Any, ends: Any, **kwargs: Any) -> Any:
        return await self._call("cat_ranges", paths, starts, ends, **kwargs)

    async def _get_file(self, rpath: str, lpath: Any, **kwargs: Any) -> Any:
        return await self._call("get_file", rpath, lpath, **kwargs)

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """An open file whose `read` and `close` are awaited. Raises as `open` does.

        ValueError for text modes and compression, as fsspec has it.
        """
        from fluidpy.client.async_file import AsyncDatasetFile

        if "b" not in mode or kwargs.get("compression"):
            raise ValueError("open_async reads binary files only, without compression")
        return AsyncDatasetFile(await self._call("open", path, mode), self._in_thread)
