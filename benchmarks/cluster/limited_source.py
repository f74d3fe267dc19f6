"""An S3 server in memory that gives so many bytes a second over all, late, and counts them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from fluidpy.testing.servers.object_server import ObjectServer, object_server

BYTES_PER_SECOND = 100_000_000
LATENCY_SECONDS = 0.02
BUCKET = "data"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class LimitedSource(ObjectServer):
    """`limited` false lets everything through at once, which counts all the same."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        super().__init__()
        self.limited = True
        self.bytes_given = 0
        self.requests = 0
        self._free_at = 0.0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request when its bytes have had their time on the line."""
        size = self._asked_for(request)
        self.bytes_given += size
        self.requests += 1
        if self.limited:
            now = asyncio.get_running_loop().time()
            self._free_at = max(now, self._free_at) + size / BYTES_PER_SECOND
            await asyncio.sleep(LATENCY_SECONDS + self._free_at - now)
        return await super().handle(request)

    def _asked_for(self, request: web.BaseRequest) -> int:
        """Bytes of an object that the answer will have."""
        bucket, _, key = request.path.lstrip("/").partition("/")
        found = self.buckets.get(bucket, {}).get(key)
        if found is None or request.method != "GET":
            return 0
        size = len(found.data)
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        if asked is None:
            return size
        last = min(int(asked[2]), size - 1) if asked[2] else size - 1
        return last + 1 - int(asked[1])


@contextmanager
def limited_source() -> Iterator[LimitedSource]:
    """A running one, in a thread of this process, which does little else."""
    source = LimitedSource()
    source.buckets[BUCKET] = {}
    with object_server(source):
        yield source
