"""Short ranges of objects over plain HTTP: small files whole, and blocks of larger ones.

obstore takes 400 µs of processor time for an object of 100 KB, most of it for handing the request
to its own threads and the bytes back; asked for by the event loop itself it takes 160 (both over
loopback, retries and limits included). Only for endpoints of plain HTTP, asked without a proxy: TLS
stays with obstore.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final
from urllib.parse import quote, urlsplit

from fluidpy.errors import SourceChangedError, SourceError, SourceUnavailableError
from fluidpy.storage.etag_codec import decode_etag, encode_etag
from fluidpy.storage.http_client import CONNECT_SECONDS, SILENCE_SECONDS
from fluidpy.storage.http_connection import (
    SCRATCH_BYTES,
    Answer,
    AnswerHead,
    ConnectionBrokenError,
    HttpConnection,
    MalformedAnswerError,
    connect,
)
from fluidpy.storage.object_store_errors import StorePlace, error_for_answer, error_of_socket
from fluidpy.storage.s3_listing import KeyProvider
from fluidpy.storage.s3_signature import GetSigner
from fluidpy.storage.under_storage import Buffer

MOST_BYTES: Final = 1024 * 1024
"""Longer ranges go another way, so that the event loop never copies more at once."""

IDLE_SECONDS: Final = 30.0
"""A connection that carried nothing for so long is closed."""

_WATCH_SECONDS: Final = 1.0
_CODE: Final = "<Code>"
_MOST_ERROR_BYTES: Final = 16 * 1024


class ObjectGets:
    """Reads short ranges of one bucket's objects, on one event loop; keeps idle connections."""

    def __init__(
        self, place: StorePlace, bucket_url: str, region: str, key: KeyProvider | None
    ) -> None:
        """`bucket_url` begins with http://; opens nothing."""
        parts = urlsplit(bucket_url)
        self._place = place
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._base = parts.path
        self._key = key
        self._signer = GetSigner(region, parts.netloc)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scratch = bytearray()
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    async def get(self, key: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes `[start, end)` of that version, MOST_BYTES at most; see `UnderStorage.read`."""
        name = quote(key.encode("utf-8", "surrogateescape"), safe="/-_.~")
        path = f"{self._base}/{name}"
        access = await self._key() if self._key is not None else None
        lines = self._signer.lines(access, path, int(time.time()))
        condition = decode_etag(version) if version else None
        match = f"if-match: {condition}\r\n" if condition else ""
        request = (
            f"GET {path} HTTP/1.1\r\n{lines}range: bytes={start}-{end - 1}\r\n{match}\r\n"
        ).encode()
        accept = partial(self._accept, key, start, end, version, condition)
        head, body = await self._ask(key, request, accept)
        if head.status >= 300:
            code = body.decode("utf-8", "replace").partition(_CODE)[2].partition("<")[0]
            raise error_for_answer(self._place, head.status, code, key)
        return body

    async def close(self) -> None:
        """Ends all connections; reads under way fail."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.end()
        self._idle.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        await asyncio.sleep(0)  # their sockets are closed in the loop's next turn

    async def _ask(self, key: str, request: bytes, accept: partial[int]) -> Answer:
        """The answer; a kept connection that died meanwhile is replaced."""
        while True:
            connection, used = await self._connection(key)
            self._busy.add(connection)
            try:
                answer = await connection.ask(request, accept)
            except ConnectionBrokenError as error:
                if used and error.received is None and not self._closed:
                    continue
                if error.received is None or error.cause is not None:
                    raise error_of_socket(self._place, error, key) from error
                raise self._broken(f"ended after {error.received} bytes", key) from error
            except MalformedAnswerError as error:
                what = f"does not speak HTTP/1.1 ({str(error)!r}) and gave no byte"
                raise self._broken(what, key) from error
            except TimeoutError as error:
                raise error_of_socket(self._place, error, key) from error
            finally:
                self._busy.discard(connection)
            if connection.usable and not self._closed:
                connection.idle_since = connection.silent_since
                self._idle.append(connection)
            else:
                connection.end()
            return answer

    async def _connection(self, key: str) -> tuple[HttpConnection, bool]:
        """A connection, and whether it was used before."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._begin_on(loop)
        if not self._scratch:
            self._scratch = bytearray(SCRATCH_BYTES)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection, True
        try:
            connection = await connect(self._host, self._port, self._scratch, CONNECT_SECONDS)
        except OSError as error:
            raise error_of_socket(self._place, error, key) from error
        if self._watch is None and not self._closed:
            self._watch = loop.call_later(_WATCH_SECONDS, self._look)
        return connection, False

    def _begin_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connections belong to one loop: those of another one are forgotten."""
        self._loop = loop
        self._watch = None
        self._idle.clear()
        self._busy.clear()

    def _look(self) -> None:
        """Ends silent requests and connections that nobody needs; one timer for all of them."""
        assert self._loop is not None
        now = self._loop.time()
        for connection in list(self._busy):
            if now - connection.silent_since > SILENCE_SECONDS:
                connection.give_up(TimeoutError())
        kept = []
        for connection in self._idle:
            if connection.usable and now - connection.idle_since < IDLE_SECONDS:
                kept.append(connection)
            else:
                connection.end()
        self._idle = kept
        if self._busy or kept:
            self._watch = self._loop.call_later(_WATCH_SECONDS, self._look)
        else:
            self._watch, self._scratch = None, bytearray()

    def _accept(
        self,
        key: str,
        start: int,
        end: int,
        version: bytes,
        condition: str | None,
        head: AnswerHead,
    ) -> int:
        """How many bytes of the body to receive. Raises SourceError for an answer of no use."""
        length = end - start
        if head.status >= 300:
            return min(_MOST_ERROR_BYTES if head.length is None else head.length, _MOST_ERROR_BYTES)
        whole = head.status == 200 and start == 0
        if head.status != 206 and not whole:
            raise self._broken(f"answered {head.status} instead of a range", key)
        headers = head.headers
        etag = headers.get("etag")
        if version and etag != condition and encode_etag(etag) != version:
            raise self._changed(key)
        spans = headers.get("content-range", "").partition("/")[0]
        if not whole and spans != f"bytes {start}-{end - 1}":
            if spans.startswith(f"bytes {start}-"):
                raise self._changed(key)  # it ends early: the object has become shorter
            raise self._broken(f"answered {spans or 'no range'}", key)
        if head.length != length:  # None for a body in chunks, which obstore does not take either
            told = "no length" if head.length is None else f"{head.length} of {length} bytes"
            raise self._broken(f"announced {told}", key)
        return length

    def _changed(self, key: str) -> SourceChangedError:
        return SourceChangedError(
            f"bucket {self._place.bucket}: {key} is no longer the version that was listed",
            cure="Open it again to read the new version.",
        )

    def _broken(self, what: str, key: str) -> SourceError:
        return SourceUnavailableError(f"{self._place.endpoint} {what} of {key}", cure="Try again.")
