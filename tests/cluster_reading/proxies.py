"""A TCP proxy of the tests, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster_network.raw_http import TcpProxy


@contextmanager
def proxy_before(target: str) -> Iterator[TcpProxy]:
    """A proxy before HOST:PORT; its attributes may be changed while it runs."""
    proxy, ready = TcpProxy(target), threading.Event()
    loop, ending = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await ending.wait()
        server.close()
        await proxy.close()

    def work() -> None:
        loop.run_until_complete(run())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(10)
        yield proxy
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)
