"""An HTTP proxy that stands before a real server and breaks its answers on purpose.

    with fault_proxy(server.endpoint) as proxy:
        proxy.add(Fault(path="*/train/0001.tar", status=503, times=2))
        proxy.latency_seconds = 0.05
        ...                                   # read through proxy.endpoint

Each request takes the first fault that matches it and has uses left; others pass unharmed. All
attributes may be changed while requests run. `proxy.requests` lists what was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from fluidpy.testing.servers.http_thread import serve

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_PIECE = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request that matches `method` and `path`."""

    path: str = "*"
    """Shell pattern for the decoded path, without the query; `/bucket/key` at a path-style S3."""
    method: str = "GET"
    """Method, or `*`."""
    query: str = "*"
    """Shell pattern for the raw query; `*list-type*` matches listings."""
    times: int = 1
    """How many requests it harms; 0 means all."""
    status: int | None = None
    """Answer this status with an S3 error body, without asking the server."""
    stall_after: int | None = None
    """Send so many bytes of the body, then nothing more; the connection stays open."""
    close_after: int | None = None
    """Send so many bytes of the body, then close the connection."""
    short_by: int = 0
    """Leave out so many bytes at the end of the body, with a Content-Length that fits."""
    etag: str | None = None
    """Answer with this ETag instead of the server's; quotes are part of it."""
    ignore_range: bool = False
    """Ask the server for the whole body and answer 200."""
    drop_condition: bool = False
    """Take If-Match out of the request, as a server that does not know it would."""
    delay_seconds: float = 0.0
    """Wait before asking the server."""
    before: Callable[[], None] | None = None
    """Called in a thread before the server is asked, to change an object for example."""


class Asked(NamedTuple):
    """One request that came in."""

    method: str
    path: str
    query: str
    range: str


class FaultProxy:
    """The running proxy."""

    def __init__(self, upstream: str) -> None:
        """Use `fault_proxy`."""
        self.endpoint = ""
        self.latency_seconds = 0.0
        """Added to every request."""
        self.bytes_per_second: int | None = None
        """Rate of each connection's body."""
        self.requests: list[Asked] = []
        self._upstream = upstream
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._session: aiohttp.ClientSession | None = None

    def add(self, *faults: Fault) -> None:
        """Adds faults behind those that are there."""
        with self._lock:
            self._faults += [(fault, [0]) for fault in faults]

    def clear(self) -> None:
        """Forgets faults, latency, rate and the list of requests."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()
        self.latency_seconds, self.bytes_per_second = 0.0, None

    def count(self, path: str = "*", method: str = "GET") -> int:
        """How many requests matched so far."""
        return sum(
            fnmatch.fnmatchcase(asked.path, path) and method in ("*", asked.method)
            for asked in list(self.requests)
        )

    def _fault_for(self, asked: Asked) -> Fault:
        with self._lock:
            self.requests.append(asked)
            for fault, used in self._faults:
                if (
                    fault.method in ("*", asked.method)
                    and fnmatch.fnmatchcase(asked.path, fault.path)
                    and fnmatch.fnmatchcase(asked.query, fault.query)
                    and (not fault.times or used[0] < fault.times)
                ):
                    used[0] += 1
                    return fault
        return Fault()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        asked = Asked(
            request.method,
            request.url.path,
            request.url.raw_query_string,
            request.headers.get("Range", ""),
        )
        fault = self._fault_for(asked)
        if fault.delay_seconds or self.latency_seconds:
            await asyncio.sleep(fault.delay_seconds + self.latency_seconds)
        if fault.before is not None:
            await asyncio.to_thread(fault.before)
        if fault.status is not None:
            return _error(fault.status)
        return await self._forward(request, fault)

    async def _forward(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP
        )
        if fault.ignore_range:
            headers.pop("Range", None)
        if fault.drop_condition:
            headers.pop("If-Match", None)
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        async with self._session.request(
            request.method,
            URL(f"{self._upstream}{request.raw_path}", encoded=True),
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            return await self._answer(request, answer, fault)

    async def _answer(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                response.headers.add(name, value)
        if fault.etag is not None:
            response.headers["ETag"] = fault.etag
        length = int(answer.headers.get("Content-Length", 0))
        if fault.short_by and request.method != "HEAD":
            length = max(0, length - fault.short_by)
            response.headers["Content-Length"] = str(length)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        limit = next((n for n in (fault.stall_after, fault.close_after) if n is not None), None)
        end = length if limit is None else min(limit, length)
        async for piece in _first(answer, end):
            await self._write(response, piece)
        if limit is not None:
            await _break(request, stall=fault.stall_after is not None)
        await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, piece: bytes) -> None:
        if self.bytes_per_second:
            await asyncio.sleep(len(piece) / self.bytes_per_second)
        await response.write(piece)

    async def close(self) -> None:
        """Ends the connections to the server."""
        if self._session is not None:
            await self._session.close()


async def _first(answer: aiohttp.ClientResponse, end: int) -> AsyncIterator[bytes]:
    sent = 0
    async for piece in answer.content.iter_chunked(_PIECE):
        if sent >= end:
            return
        yield piece[: end - sent]
        sent += len(piece)


async def _break(request: web.BaseRequest, *, stall: bool) -> None:
    transport = request.transport
    if stall:
        # Ends when the proxy does: it cancels what still runs.
        await asyncio.Event().wait()
    if transport is not None:
        transport.close()


def _error(status: int) -> web.Response:
    codes = {429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}
    text = f"<Error><Code>{codes.get(status, 'Fault')}</Code></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy before `upstream` (a URL without a path) on a free port of loopback."""
    proxy = FaultProxy(upstream.rstrip("/"))
    with serve(proxy.handle) as server:
        proxy.endpoint = server.endpoint
        try:
            yield proxy
        finally:
            server.call(proxy.close())
