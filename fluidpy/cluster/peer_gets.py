"""Short ranges from other workers, asked for by the event loop itself: no thread, no copy.

A thread costs a short read more than the read itself: handing over and back takes as long as moving
100 KB.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Collection
from typing import Final

from crc32c import crc32c

from fluidpy.cluster import peer_protocol as protocol
from fluidpy.cluster.membership import Member
from fluidpy.cluster.peer_connection import CONNECT_SECONDS, failure_of, no_secure_connection
from fluidpy.cluster.peer_protocol import PeerRequest
from fluidpy.cluster.peer_transfer import corrupt, error_of, label_of, sums_of_head
from fluidpy.errors import PeerError, PeerTimeoutError, PeerUnreachableError
from fluidpy.storage.http_connection import (
    SCRATCH_BYTES,
    Answer,
    AnswerHead,
    ConnectionBrokenError,
    HttpConnection,
    MalformedAnswerError,
    connect,
)
from fluidpy.storage.under_storage import Buffer

MOST_BYTES: Final = 1024 * 1024
"""Longer ranges go another way, so that the event loop never copies more at once."""

_MOST_ERROR_BYTES: Final = 64 * 1024


class PeerGets:
    """Short reads from any members of a pool, on one event loop; keeps idle connections."""

    def __init__(self, tls: ssl.SSLContext | None, idle_seconds: float) -> None:
        """Connects to none; connections idle for `idle_seconds` are not used again."""
        self._tls = tls
        self._idle_seconds = idle_seconds
        self._idle: defaultdict[str, list[HttpConnection]] = defaultdict(list)
        self._busy: set[HttpConnection] = set()
        self._scratch = bytearray()
        self._closed = False

    async def get(
        self, member: Member, request: PeerRequest, message: bytes, seconds: float
    ) -> tuple[Buffer, str]:
        """The bytes of a range of MOST_BYTES at most, verified, and where the peer had them from.

        `message` is the whole request. Raises PeerError, SourceError.
        """
        label = label_of(member)
        try:
            async with asyncio.timeout(seconds):
                head, body = await self._ask(member, label, request, message)
        except TimeoutError as error:
            raise PeerTimeoutError(
                f"{label} did not answer in time",
                cure="Look whether it is up and the network between works.",
            ) from error
        if head.status != protocol.OK:
            raise error_of(label, head.status, bytes(body))
        block, sums = sums_of_head(label, head.headers, len(body))
        view = memoryview(body)
        for number, expected in enumerate(sums):
            if crc32c(view[number * block : (number + 1) * block]) != expected:
                raise corrupt(label, request)
        return body, protocol.origin_of(head.headers)

    def forget(self, addresses: Collection[str]) -> None:
        """Ends idle connections to these addresses."""
        for address in addresses:
            for connection in self._idle.pop(address, ()):
                connection.end()

    @property
    def addresses(self) -> set[str]:
        """Where idle connections lead."""
        return set(self._idle)

    def close(self) -> None:
        """Ends all connections; reads under way fail."""
        self._closed = True
        self.forget(self.addresses)
        for connection in list(self._busy):
            connection.end()

    async def _ask(
        self, member: Member, label: str, request: PeerRequest, message: bytes
    ) -> Answer:
        """The answer; a kept connection that died meanwhile is replaced."""
        wanted = request.end - request.start
        loop = asyncio.get_running_loop()
        while True:
            connection, used = await self._connection(member, label)
            self._busy.add(connection)
            try:
                answer = await connection.ask(message, lambda head: _wanted(head, wanted))
            except ConnectionBrokenError as error:
                if used and error.received is None and not self._closed:
                    continue
                raise self._left(label, error) from error
            except MalformedAnswerError as error:
                raise PeerUnreachableError(
                    f"{label} sent an answer of no use: {error}",
                    cure="Look whether all workers run the same version.",
                ) from error
            finally:
                self._busy.discard(connection)
            if connection.usable and not self._closed:
                connection.idle_since = loop.time()
                self._idle[member.address].append(connection)
            else:
                connection.end()
            return answer

    def _left(self, label: str, error: ConnectionBrokenError) -> PeerError:
        """The error for a connection that ended before the answer did."""
        if isinstance(error.cause, OSError):
            return failure_of(label, error.cause)
        if self._tls is not None and error.received is None:
            return no_secure_connection(label, "closed at once")
        return PeerUnreachableError(
            f"{label} left in the middle", cure="Look whether it is up and what its log says."
        )

    async def _connection(self, member: Member, label: str) -> tuple[HttpConnection, bool]:
        """A connection, and whether it was used before."""
        idle = self._idle[member.address]
        oldest = asyncio.get_running_loop().time() - self._idle_seconds
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection, True
            connection.end()
        if not self._scratch:
            self._scratch = bytearray(SCRATCH_BYTES)
        host, _, port = member.address.rpartition(":")
        try:
            connection = await connect(
                host.strip("[]"), int(port), self._scratch, CONNECT_SECONDS, self._tls
            )
        except OSError as error:
            raise failure_of(label, error) from error
        return connection, False


def _wanted(head: AnswerHead, wanted: int) -> int:
    """How many bytes of the body to receive. Raises MalformedAnswerError."""
    if head.length is None or (head.status != protocol.OK and head.length > _MOST_ERROR_BYTES):
        raise MalformedAnswerError("a body of unknown or great length")
    if head.status == protocol.OK and head.length != wanted:
        raise MalformedAnswerError(f"{head.length} of {wanted} bytes")
    return head.length
