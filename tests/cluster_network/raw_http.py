"""Requests that no worker sends, and a proxy below HTTP that breaks what passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)
        return found


async def ask(
    address: str, target: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes = b""
) -> Reply:
    """One request, sent as it is."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    try:
        raw = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in others)
    return Reply(int(first.split()[1]), fields, rest)


class TcpProxy:
    """Passes bytes on, both ways; `answer` may change or hold back those of the server."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self.change: Callable[[int, bytes], bytes] = lambda at, data: data
        """The bytes to pass on, for those that begin at an offset of the server's answer."""
        self.stall_after: int | None = None
        """Passes so many bytes of an answer on, then nothing more."""
        self.cut_after: int | None = None
        """Passes so many bytes of an answer on, then cuts the connection."""
        self.bytes_per_second: float | None = None
        self.accepted = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        host, _, port = self.target.rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        try:
            upward = asyncio.create_task(self._pass(reader, back))
            downward = asyncio.create_task(self._answer(there, writer))
            await asyncio.wait([upward, downward], return_when=asyncio.FIRST_COMPLETED)
            upward.cancel()
            downward.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)
        finally:
            writer.close()
            back.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65536):
            if self.stall_after is not None and passed + len(data) > self.stall_after:
                writer.write(data[: max(0, self.stall_after - passed)])
                await asyncio.Event().wait()
            if self.cut_after is not None and passed + len(data) > self.cut_after:
                writer.write(data[: max(0, self.cut_after - passed)])
                await writer.drain()
                return
            if self.bytes_per_second:
                await asyncio.sleep(len(data) / self.bytes_per_second)
            writer.write(self.change(passed, data))
            await writer.drain()
            passed += len(data)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def tcp_proxy(target: str) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
