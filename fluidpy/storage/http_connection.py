"""One kept connection that asks for bytes with HTTP/1.1, without an object or a task a request.

What an HTTP library does for the general case (chunks, redirects, cookies, compressed bodies) costs
it more than moving 100 KB does. Here a request is bytes, an answer is its head and as many bytes of
the body as its asker wants; everything else ends the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

from fluidpy.errors import SourceError

MOST_HEAD_BYTES: Final = 64 * 1024
"""Longest head of an answer that is read."""

_SHORT_BODY: Final = 256 * 1024
SCRATCH_BYTES: Final = _SHORT_BODY + 16 * 1024
"""One receive takes an answer of so many bytes: its head, and the body of a small object."""


class AnswerHead(NamedTuple):
    """What an answer says before its body; `length` is None when the body's end shows it."""

    status: int
    headers: dict[str, str]
    """By lower-case name; of a name that comes twice the last."""
    length: int | None
    keeps: bool
    """Whether the server leaves the connection open."""


class Answer(NamedTuple):
    """The head, and the bytes that were asked for: all of them, unless `length` is None."""

    head: AnswerHead
    body: bytes | bytearray


class ConnectionBrokenError(Exception):
    """The connection ended before the answer did; `received` bytes of the body had come."""

    def __init__(self, received: int | None, cause: Exception | None) -> None:
        """`received` is None when not one byte of the answer came."""
        super().__init__(str(cause) if cause else "closed")
        self.received = received
        self.cause = cause


class MalformedAnswerError(Exception):
    """What came is not HTTP/1.x."""


Accept = Callable[[AnswerHead], int]
"""How many bytes of the body to receive, for a head. Raises SourceError."""


def parse_head(raw: bytes) -> AnswerHead:
    """An answer's head without the empty line at its end. Raises MalformedAnswerError."""
    first, _, rest = raw.decode("latin-1").partition("\r\n")
    protocol, _, status = first.partition(" ")
    if not protocol.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise MalformedAnswerError(first[:80])
    headers = {}
    for line in rest.split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = headers.get("content-length", "")
    told = length.isdecimal() and "transfer-encoding" not in headers
    connection = headers.get("connection", "").lower()
    keeps = connection != "close" and (protocol != "HTTP/1.0" or connection == "keep-alive")
    return AnswerHead(int(status[:3]), headers, int(length) if told else None, keeps)


class HttpConnection(asyncio.BufferedProtocol):
    """A connection that carries one request at a time; made by `connect`."""

    __slots__ = (
        "_accept", "_answer", "_before", "_body", "_filled", "_head", "_lost", "_scratch",
        "_transport", "_view", "idle_since", "silent_since", "usable",
    )  # fmt: skip

    def __init__(self, scratch: bytearray) -> None:
        """`scratch` (SCRATCH_BYTES) is shared by all connections of one event loop."""
        self._scratch = scratch
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._accept: Accept
        self._before = b""
        self._head: AnswerHead | None = None
        self._body: bytearray | None = None
        self._view: memoryview
        self._filled = 0
        self.silent_since = 0.0
        """When the last byte came or went, on the event loop's clock."""
        self.idle_since = 0.0
        self.usable = True
        """False once it cannot carry another request."""

    async def ask(self, request: bytes, accept: Accept) -> Answer:
        """The answer to a request. Cancelled or failed, the connection is of no more use.

        Raises ConnectionBrokenError, MalformedAnswerError, and what `accept` does.
        """
        transport = self._transport
        if transport is None:
            raise ConnectionBrokenError(None, None)
        loop = asyncio.get_running_loop()
        self._accept = accept
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        self.silent_since = loop.time()
        transport.write(request)
        try:
            return await answer
        except BaseException:
            self.end()
            raise
        finally:
            self._answer = None

    def give_up(self, error: Exception) -> None:
        """Ends the request under way with an error."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.end()

    def end(self) -> None:
        """Closes the connection, whatever is under way."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # The protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of the protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of the protocol."""
        self.usable = False
        self._transport = None
        if self._answer is None or self._answer.done():
            return
        if self._head is not None and self._head.length is None and self._body is not None:
            del self._view
            self._done(self._head, self._body[: self._filled])
            return
        nothing = self._head is None and not self._before
        received = None if nothing else self._filled
        self._answer.set_exception(ConnectionBrokenError(received, exc))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Part of the protocol: the scratch until the head is there, then the body's place.

        A view, since asyncio's TLS fills slices of what it gets: those of a bytearray are copies.
        """
        return memoryview(self._scratch) if self._body is None else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Part of the protocol: so many bytes lie in what `get_buffer` gave."""
        if self._answer is None or self._answer.done():
            self.end()  # nobody asked for this
            return
        self.silent_since = self._answer.get_loop().time()
        body = self._body
        if body is None:
            try:
                self._take_head(nbytes)
            except (SourceError, MalformedAnswerError) as error:
                self.give_up(error)
            return
        assert self._head is not None
        self._filled += nbytes
        if self._filled == len(body):
            del self._view
            self._done(self._head, body)
        else:
            self._view = self._view[nbytes:]

    def _take_head(self, count: int) -> None:
        raw: bytes | bytearray = self._scratch
        if self._before:
            raw = self._before + self._scratch[:count]
            count = len(raw)
        end = raw.find(b"\r\n\r\n", 0, count)
        if end < 0:
            if count > MOST_HEAD_BYTES:
                raise MalformedAnswerError("a head without an end")
            self._before = bytes(raw[:count])
            return
        head = parse_head(bytes(raw[:end]))
        self._before = b""
        self._head = head
        wanted = self._accept(head)
        with memoryview(raw) as whole, whole[end + 4 : count] as rest:
            if head.length is None or len(rest) > head.length or wanted < head.length:
                self.usable = False  # where the next answer would begin is not known
            if len(rest) >= wanted:
                self._done(head, bytes(rest[:wanted]))
            else:
                self._expect(wanted, rest)

    def _expect(self, wanted: int, rest: memoryview) -> None:
        """Makes the place for the whole body, of which `rest` has come with the head."""
        body = self._body = bytearray(wanted)
        self._filled = len(rest)
        body[: len(rest)] = rest
        self._view = memoryview(body)[len(rest) :]
        # No SO_RCVLOWAT for fewer wake-ups: the kernel does not always report the last bytes
        # then, and one read of 64 took 16 s (Linux 6.18, 256 KiB).

    def _done(self, head: AnswerHead, body: bytes | bytearray) -> None:
        self._head = self._body = None
        self._filled = 0
        self.usable = self.usable and head.keeps
        assert self._answer is not None
        self._answer.set_result(Answer(head, body))


async def connect(
    host: str, port: int, scratch: bytearray, seconds: float, tls: ssl.SSLContext | None = None
) -> HttpConnection:
    """A new connection, over plain TCP without `tls`. Raises OSError, TimeoutError after
    `seconds`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        _, connection = await loop.create_connection(
            lambda: HttpConnection(scratch), host, port, ssl=tls
        )
    return connection
