"""An aiohttp handler served on loopback from a thread, so that any test can use it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_SECONDS = 30


class HttpThread:
    """A running server; `endpoint` is its URL without a slash at the end."""

    def __init__(self) -> None:
        """Use `serve`."""
        self.endpoint = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def call(self, coroutine: Any) -> Any:
        """Runs a coroutine on the server's loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_SECONDS)

    def run(
        self, handler: Handler, started: threading.Event, tls: ssl.SSLContext | None = None
    ) -> None:
        """The thread's main function."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(handler, started, tls))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _serve(
        self, handler: Handler, started: threading.Event, tls: ssl.SSLContext | None
    ) -> None:
        server = web.Server(handler, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.endpoint = site_url(runner)
        if tls is not None:
            self.endpoint = self.endpoint.replace("http:", "https:", 1)
        started.set()
        await self._stop.wait()
        await runner.cleanup()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def stop(self) -> None:
        """Asks the server to end."""
        self._loop.call_soon_threadsafe(self._stop.set)


def site_url(runner: web.ServerRunner) -> str:
    """The URL of a runner's only site."""
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


@contextlib.contextmanager
def serve(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[HttpThread]:
    """Serves `handler` on a free port of loopback until the block is left, maybe with TLS."""
    server, started = HttpThread(), threading.Event()
    thread = threading.Thread(target=server.run, args=(handler, started, tls), daemon=True)
    thread.start()
    if not started.wait(_SECONDS):
        raise RuntimeError("the server's thread did not start")
    try:
        yield server
    finally:
        server.stop()
        thread.join(_SECONDS)
