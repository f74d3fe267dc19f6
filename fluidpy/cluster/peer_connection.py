"""One kept connection to another worker, for a thread: a request, its answer's head, its bytes.

The thread sleeps in the kernel until a whole piece has come (MSG_WAITALL): the interpreter's
lock is taken once a piece. Every call has a deadline, a time of `time.monotonic`.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Final

from fluidpy.errors import PeerError, PeerTimeoutError, PeerUnreachableError
from fluidpy.storage.http_connection import (
    MOST_HEAD_BYTES,
    AnswerHead,
    MalformedAnswerError,
    parse_head,
)

CONNECT_SECONDS: Final = 2.0
"""A machine of the same network answers within a millisecond; a packet lost is sent again after 1 s
(RFC 6298)."""

SILENCE_SECONDS: Final = 10.0
"""A body that began and then stops for so long is given up."""

_KEEP_ALIVE: Final = (
    (socket.SO_KEEPALIVE, socket.SOL_SOCKET, 1),
    (socket.TCP_KEEPIDLE, socket.IPPROTO_TCP, 5),
    (socket.TCP_KEEPINTVL, socket.IPPROTO_TCP, 2),
    (socket.TCP_KEEPCNT, socket.IPPROTO_TCP, 3),
    (socket.TCP_USER_TIMEOUT, socket.IPPROTO_TCP, 10_000),
    (socket.TCP_NODELAY, socket.IPPROTO_TCP, 1),
)
"""A machine that vanished is noticed within 11 s, whatever the deadline."""

_BUFFER_BYTES: Final = 64 * 1024
_LIMIT_SECONDS: Final = 0.05
"""A time-out of the socket is set anew when it is so old: a call may end that much late."""

_TIMEVAL: Final = struct.Struct("ll")
_MOST_LINE_BYTES: Final = 256


class PeerConnection:
    """A connection to one worker; `label` is what errors call it."""

    def __init__(self, label: str, address: str, tls: ssl.SSLContext | None) -> None:
        """Opens nothing yet; `address` is HOST:PORT."""
        self.label = label
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), port
        self._tls = tls
        self._socket: socket.socket | None = None
        self._buffer = bytearray(_BUFFER_BYTES)
        self._at = self._end = 0
        """What has come and was not taken: these bytes of the buffer."""
        self._chunk_left = -1
        self._first_chunk = False
        self._aborted = False
        self.gather_bytes = _BUFFER_BYTES
        """How much may be received into the buffer at once, to be copied from there: little when
        what follows is long."""
        self._limits: dict[int, tuple[float, float]] = {}
        self.used = False
        """Whether it has carried an answer before."""
        self.idle_since = 0.0
        self.began = False
        """Whether a byte of the present answer has come."""

    def ask(self, request: bytes, deadline: float) -> AnswerHead:
        """Sends a request; the head of its answer.

        Raises PeerUnreachableError, PeerTimeoutError.
        """
        self.began = False
        self.gather_bytes = _BUFFER_BYTES
        try:
            sock = self._socket or self._connect(deadline)
            self._limit(sock, deadline, socket.SO_SNDTIMEO)
            sock.sendall(request)
            return self._head(sock, deadline)
        except ConnectionError as error:
            if self._tls is not None and not (self.used or self.began):
                raise no_secure_connection(self.label, "closed at once") from error
            raise failure_of(self.label, error) from error
        except OSError as error:
            raise failure_of(self.label, error) from error

    def read_into(self, view: memoryview, deadline: float) -> None:
        """Fills `view` with the next bytes of the body, which has as many.

        Raises PeerUnreachableError, PeerTimeoutError.
        """
        try:
            if self._chunk_left < 0:
                self._receive(view, deadline)
            else:
                self._receive_chunked(view, deadline)
        except OSError as error:
            raise failure_of(self.label, error) from error

    def read_chunk(
        self, place: Callable[[int, int], memoryview], most: int, deadline: float
    ) -> memoryview:
        """The next chunk of a body in chunks, received to where `place` says (offset 0, length).

        Raises as `read_into`, and for a chunk of more than `most` bytes.
        """
        try:
            if not self._chunk_left:
                self._next_chunk(deadline)
            length = self._chunk_left
            if not length:
                raise ConnectionResetError("the answer ended before all bytes had come")
            if length > most:
                raise self.broken("sent a chunk that is too long")
            view = place(0, length)
            self._receive(view, deadline)
            self._chunk_left = 0
        except OSError as error:
            raise failure_of(self.label, error) from error
        return view

    def read_end(self, deadline: float) -> None:
        """Reads the end of a body in chunks, so that the connection can carry another request."""
        try:
            if self._chunk_left == 0:
                self._next_chunk(deadline)
        except OSError as error:
            raise failure_of(self.label, error) from error
        if self._chunk_left > 0:
            raise self.broken("sent more than it was asked for")

    def read_short(self, head: AnswerHead, most: int, deadline: float) -> bytes:
        """A short body whole. Raises as `read_into`, and for one longer than `most` bytes."""
        if head.length is None or head.length > most:
            raise self.broken("sent an answer of no use")
        body = bytearray(head.length)
        self.read_into(memoryview(body), deadline)
        return bytes(body)

    def abort(self) -> None:
        """Makes calls in another thread end soon, with an error."""
        self._aborted = True
        if (sock := self._socket) is not None:
            with contextlib.suppress(OSError):  # the peer was first
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the connection."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def broken(self, what: str) -> PeerUnreachableError:
        """The error for a peer that did something no worker does."""
        return broken(self.label, what)

    def _connect(self, deadline: float) -> socket.socket:
        seconds = min(CONNECT_SECONDS, self._left(deadline))
        sock = socket.create_connection((self._host, self._port), seconds)
        try:
            for name, level, value in _KEEP_ALIVE:
                sock.setsockopt(level, name, value)
            if self._tls is not None:
                sock.settimeout(min(SILENCE_SECONDS, self._left(deadline)))
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
            else:
                sock.settimeout(None)  # SO_RCVTIMEO instead: no poll before each call
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        if self._aborted:
            self.abort()
        return sock

    def _head(self, sock: socket.socket, deadline: float) -> AnswerHead:
        filled, end, view = 0, -1, memoryview(self._buffer)
        while end < 0:
            if filled == MOST_HEAD_BYTES:
                raise self.broken("sent a head without an end")
            self._limit(sock, deadline, socket.SO_RCVTIMEO)
            count = sock.recv_into(view[filled:])
            if not count:
                raise ConnectionResetError("closed")
            self.began = True
            end = self._buffer.find(b"\r\n\r\n", max(0, filled - 3), filled + count)
            filled += count
        try:
            head = parse_head(bytes(view[:end]))
        except MalformedAnswerError as error:
            raise self.broken("does not speak HTTP") from error
        self._at, self._end = end + 4, filled
        chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        if not chunked and head.length is None:
            raise self.broken("sent a body without a length")
        self._chunk_left = 0 if chunked else -1
        self._first_chunk = True
        return head

    def _receive(self, view: memoryview, deadline: float) -> None:
        """Fills `view` from what has come already, then from the socket."""
        taken = min(self._end - self._at, len(view))
        if taken:
            view[:taken] = memoryview(self._buffer)[self._at : self._at + taken]
            self._at += taken
        flags = 0 if self._tls is not None else socket.MSG_WAITALL
        while taken < len(view):
            taken += self._receive_some(view[taken:], deadline, flags)

    def _receive_some(self, view: memoryview, deadline: float, flags: int = 0) -> int:
        sock = self._socket
        if sock is None:
            raise ConnectionResetError("closed")
        self._limit(sock, deadline, socket.SO_RCVTIMEO, SILENCE_SECONDS)
        count = sock.recv_into(view, 0, flags)
        if not count:
            raise ConnectionResetError("closed before all bytes had come")
        return count

    def _receive_chunked(self, view: memoryview, deadline: float) -> None:
        while view:
            if not self._chunk_left:
                self._next_chunk(deadline)
                if not self._chunk_left:
                    raise ConnectionResetError("the answer ended before all bytes had come")
            count = min(len(view), self._chunk_left)
            self._receive(view[:count], deadline)
            self._chunk_left -= count
            view = view[count:]

    def _next_chunk(self, deadline: float) -> None:
        """Reads the line before a chunk; after the last one, the end of the body."""
        if not self._first_chunk and self._line(deadline):
            raise self.broken("sent a chunk of another length than it said")
        self._first_chunk = False
        line = self._line(deadline)
        try:
            self._chunk_left = int(line, 16)
        except ValueError as error:
            raise self.broken("sent a chunk without a length") from error
        if self._chunk_left < 0 or (not self._chunk_left and self._line(deadline)):
            raise self.broken("sent a chunk of no use")

    def _line(self, deadline: float) -> bytes:
        """The next line, without its end; chunks have no others than short ones."""
        while True:
            end = self._buffer.find(b"\r\n", self._at, self._end)
            if end >= 0:
                line = bytes(self._buffer[self._at : end])
                self._at = end + 2
                return line
            if self._end - self._at > _MOST_LINE_BYTES:
                raise self.broken("sent a chunk without a length")
            self._gather(self._end - self._at + 1, deadline)

    def _gather(self, count: int, deadline: float) -> None:
        """Has so many bytes in the buffer, in one piece."""
        left = self._end - self._at
        if left < count and (not left or self._at + count > len(self._buffer)):
            self._buffer[:left] = self._buffer[self._at : self._end]
            self._at, self._end = 0, left
        while self._end - self._at < count:
            stop = min(self._end + max(count, self.gather_bytes), len(self._buffer))
            view = memoryview(self._buffer)[self._end : stop]
            self._end += self._receive_some(view, deadline)

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0 or self._aborted:
            raise TimeoutError("the deadline passed")
        return left

    def _limit(
        self, sock: socket.socket, deadline: float, option: int, most: float = math.inf
    ) -> None:
        """The next call on the socket may take until the deadline, `most` seconds at most."""
        now = time.monotonic()
        left = min(deadline - now, most)
        if left <= 0 or self._aborted:
            raise TimeoutError("the deadline passed")
        set_at, seconds = self._limits.get(option, (0.0, 0.0))
        if now - set_at < _LIMIT_SECONDS and abs(seconds - left) < _LIMIT_SECONDS:
            return
        self._limits[option] = now, left
        if self._tls is not None:
            sock.settimeout(left)
        else:
            whole = int(left)
            value = _TIMEVAL.pack(whole, max(1, int((left - whole) * 1e6)))
            sock.setsockopt(socket.SOL_SOCKET, option, value)


def broken(label: str, what: str) -> PeerUnreachableError:
    """The error for a peer that did something no worker does."""
    return PeerUnreachableError(
        f"{label} {what}", cure="Look whether all workers run the same version."
    )


def no_secure_connection(label: str, reason: str) -> PeerUnreachableError:
    """The error for a handshake that did not come to an end."""
    return PeerUnreachableError(
        f"{label}: no secure connection ({reason}): one of both has a certificate that is not of"
        " this pool, or none",
        cure="Run `fluidpy up`, which makes certificates for all workers.",
    )


def failure_of(label: str, error: OSError) -> PeerError:
    """The error of ours for what a socket raised."""
    if isinstance(error, PeerError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return PeerUnreachableError(
            f"{label} shows a certificate that is not of this pool: {error.verify_message}",
            cure="Run `fluidpy up`, which makes certificates for all workers.",
        )
    if isinstance(error, ssl.SSLError):
        return no_secure_connection(label, error.reason or str(error))
    if isinstance(error, TimeoutError | BlockingIOError):
        return PeerTimeoutError(
            f"{label} did not answer in time",
            cure="Look whether it is up and the network between works.",
        )
    return PeerUnreachableError(
        f"{label} cannot be reached, or left in the middle: {error.strerror or error}",
        cure="Look whether it is up and the network between works.",
    )
