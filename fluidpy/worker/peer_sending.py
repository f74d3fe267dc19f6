"""The body of an answer to a peer: bytes go from files to the socket, not through Python.

aiohttp has written the head; then threads call sendfile on the same socket, so that a disk that is
slow holds up no other request. A thread leaves when the socket takes nothing for a moment, and the
event loop waits for it to take more: slow readers occupy no thread. Over TLS the bytes are read and
written by aiohttp, since only the TLS layer can write to that socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from fluidpy.cache.sealed_range import FileSpan, length_of
from fluidpy.errors import CacheError, PeerTimeoutError

if TYPE_CHECKING:
    from aiohttp import web

Piece: TypeAlias = bytes | memoryview | FileSpan
Chunk: TypeAlias = tuple[bytes, Sequence[FileSpan]]
"""A chunk: bytes to begin with, and spans of files after them."""

NextGroup: TypeAlias = Callable[[], memoryview | None]
"""Gives the bytes of the next chunk, valid until it is called again; None: no more."""

THREADS: Final = 8
"""Threads that send, all connections together."""

INLINE_BYTES: Final = 256 * 1024
"""Bodies up to this size, in bytes, are sent on the event loop if the socket takes them."""

STALL_MILLISECONDS: Final = 5
"""How long a thread waits for a socket to take more before it leaves that to the event loop."""

TLS_BYTES: Final = 256 * 1024
"""What is read and encrypted at once, in bytes: 0.2 ms of the event loop."""

NextPieces: TypeAlias = Callable[[], Sequence[Piece]]

_Result = TypeVar("_Result")

_CHUNK_END: Final = b"\r\n"


class BodySender:
    """Sends pieces as the body of one answer whose head was sent; `close` it at the end."""

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, threads: ThreadPoolExecutor,
        deadline: float,
    ) -> None:  # fmt: skip
        """`deadline` is a time of the event loop's clock. Raises ConnectionError when the peer has
        gone already.
        """
        transport = request.transport
        if transport is None:
            raise _gone()
        self._transport = transport
        self._response = response
        self._threads = threads
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._plain = transport.get_extra_info("sslcontext") is None
        self._socket: socket.socket | None = None

    async def send(self, pieces: Sequence[Piece]) -> None:
        """Sends all pieces, in order.

        Raises PeerTimeoutError when the deadline passes, ConnectionError when the peer has gone,
        CacheError when a file ends too early. The body is broken then: end the connection.
        """
        left = deque(pieces)
        if self._plain and sum(map(_length, pieces)) <= INLINE_BYTES:
            self._send_now(left)
            if not left:
                return
        async with self._in_time():
            if self._plain:
                await self._send_by_threads(self._own_socket(), left)
            else:
                await self._send_by_transport(left)

    async def send_groups(self, next_group: NextGroup) -> None:
        """Sends chunks of HTTP's chunked coding as long as `next_group`, which is called in the
        threads, gives any. Raises as `send`, and what `next_group` raises.
        """
        async with self._in_time():
            if self._plain:
                more = partial(_chunk_of, next_group)
                await self._send_by_threads(self._own_socket(), deque(), more)
                return
            while (group := await self._called(next_group)) is not None:
                await self._response.write(bytes(group))  # its transport may keep them for later

    async def send_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Sends chunks of HTTP's chunked coding, one each; raises as `send`."""
        if not self._plain:  # aiohttp makes its own chunks
            async with self._in_time():
                for head, spans in chunks:
                    read = self._loop.run_in_executor(self._threads, _read, spans)
                    await self._response.write(head + await read)
            return
        pieces: list[Piece] = []
        before = b""
        for head, spans in chunks:
            length = len(head) + length_of(spans)
            pieces.append(b"%b%x\r\n%b" % (before, length, head))
            pieces += spans
            before = _CHUNK_END
        await self.send([*pieces, before])

    def close(self) -> None:
        """Lets go of the socket; the connection stays."""
        if self._socket is not None:
            self._socket.close()

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError as error:
            raise PeerTimeoutError(
                "the peer did not take its answer in time", cure="Look at the network."
            ) from error

    def _send_now(self, left: deque[Piece]) -> None:
        """Sends what the socket takes at once of spans of files."""
        number = self._transport.get_extra_info("socket").fileno()
        if number < 0:
            raise _gone()
        while left and not self._transport.get_write_buffer_size():
            piece = left[0]
            if not isinstance(piece, FileSpan):
                return
            try:
                sent = os.sendfile(number, piece.fd, piece.offset, piece.length)
            except BlockingIOError:
                return
            _sent(left, piece, sent)

    def _own_socket(self) -> socket.socket:
        """The socket with a descriptor of our own: the transport may close its one while a thread
        sends.
        """
        if self._socket is None:
            number = self._transport.get_extra_info("socket").fileno()
            if number < 0:
                raise _gone()
            self._socket = socket.socket(fileno=os.dup(number))
        return self._socket

    async def _send_by_transport(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if not isinstance(piece, FileSpan):
                await self._response.write(piece)
                continue
            for at in range(0, piece.length, TLS_BYTES):
                part = FileSpan(piece.fd, piece.offset + at, min(TLS_BYTES, piece.length - at))
                read = self._loop.run_in_executor(self._threads, _read, (part,))
                await self._response.write(await read)

    async def _send_by_threads(
        self, sock: socket.socket, left: deque[Piece], more: NextPieces = tuple
    ) -> None:
        while self._transport.get_write_buffer_size():  # the head, to a peer that does not read
            await self._writable(sock)
        ended = False
        while not ended:
            work = self._loop.run_in_executor(self._threads, push, sock, left, more)
            try:
                ended = await asyncio.shield(work)
            except asyncio.CancelledError:
                with contextlib.suppress(OSError):  # it was closed already
                    sock.shutdown(socket.SHUT_RDWR)
                await _ended(work)
                raise
            if not ended:
                await self._writable(sock)

    async def _called(self, next_group: NextGroup) -> memoryview | None:
        work = self._loop.run_in_executor(self._threads, next_group)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await _ended(work)  # it may be writing to its buffer
            raise

    async def _writable(self, sock: socket.socket) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(sock, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(sock)


def push(sock: socket.socket, left: deque[Piece], more: NextPieces = tuple) -> bool:
    """Sends `left`, then what `more` gives; whether all is sent, False when the socket takes no
    more now.
    """
    while True:
        if not left:
            left.extend(more())
        if not left:
            return True
        try:
            _push_first(sock, left)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(sock, select.POLLOUT)
            if not waiting.poll(STALL_MILLISECONDS):
                return False


def _push_first(sock: socket.socket, left: deque[Piece]) -> None:
    piece = left[0]
    if not isinstance(piece, FileSpan):
        sent = sock.send(piece, socket.MSG_MORE if len(left) > 1 else 0)
        if sent == len(piece):
            left.popleft()
        else:
            left[0] = piece[sent:]
    else:
        sent = os.sendfile(sock.fileno(), piece.fd, piece.offset, piece.length)
        _sent(left, piece, sent)


def _sent(left: deque[Piece], span: FileSpan, sent: int) -> None:
    """Takes what was sent of the first piece off `left`. Raises CacheError when nothing was."""
    if sent == span.length:
        left.popleft()
    elif sent:
        left[0] = FileSpan(span.fd, span.offset + sent, span.length - sent)
    else:
        raise _ended_early()


def _length(piece: Piece) -> int:
    return piece.length if isinstance(piece, FileSpan) else len(piece)


def _chunk_of(next_group: NextGroup) -> Sequence[Piece]:
    """The next chunk as it is on the wire; empty when there is none."""
    group = next_group()
    return () if group is None else (b"%x\r\n" % len(group), group, _CHUNK_END)


def _read(spans: Sequence[FileSpan]) -> bytes:
    """The bytes of some files. Raises CacheError when one ends too early."""
    data = b"".join([os.pread(span.fd, span.length, span.offset) for span in spans])
    if len(data) != length_of(spans):
        raise _ended_early()
    return data


def _gone() -> ConnectionResetError:
    return ConnectionResetError("the peer has gone")


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _ended_early() -> CacheError:
    return CacheError("a cache file ended before its bytes did", cure="Fetch the range again.")


async def _ended(work: asyncio.Future[_Result]) -> None:
    """Waits for a thread's work, whatever cancels this meanwhile."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()
