"""Reading from other workers: every block is compared with its checksum before a byte is used.

Threads receive, one connection each, into buffers that are used again; the interpreter's lock is
free while bytes move. Every call has a deadline and ends in time whatever the other side does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias, TypeVar

from fluidpy.aligned_memory import page_aligned
from fluidpy.cluster import peer_protocol as protocol
from fluidpy.cluster.membership import Member, Membership
from fluidpy.cluster.peer_connection import PeerConnection
from fluidpy.cluster.peer_gets import PeerGets
from fluidpy.cluster.peer_protocol import PeerRequest, Presence
from fluidpy.cluster.peer_transfer import (
    PeerTransfer,
    TakeObject,
    label_of,
    not_come,
    receive_batch,
    receive_range,
    receive_short,
)
from fluidpy.errors import ClusterError, FluidpyError, PeerError
from fluidpy.storage.under_storage import Buffer, TakePiece

PIECE_BYTES: Final = 512 * 1024
"""A piece: what was received is used while the processor still has it in its cache. A larger block
makes larger pieces, since nothing is used before its block was verified."""

THREADS: Final = 32
"""Transfers at once; as many as a mount asks of its source by default."""

IDLE_SECONDS: Final = 20.0
"""A connection idle for so long is not used again: the server closes it after 30 s."""

DEADLINE_SHARE: Final = 0.95
"""The peer is told to give up a little earlier, so that its own error, which says more, arrives."""

_MOST_PRESENCE_BYTES: Final = 1024 * 1024

_Result = TypeVar("_Result")
_Receive: TypeAlias = Callable[[PeerTransfer[_Result]], _Result]


class PeerClient:
    """Asks the other workers of a pool; for one event loop. `use` a membership first."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, threads: int = THREADS) -> None:
        """`tls` is a context of `peer_tls.client_context`, None on loopback. Connects to none."""
        self._tls = tls
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fluidpy-peer")
        self._tokens: Mapping[str, str] = {}
        self._idle: dict[str, list[PeerConnection]] = {}
        self._gets = PeerGets(tls, IDLE_SECONDS)
        self._buffers = threading.local()
        self._closed = False

    def use(self, membership: Membership) -> None:
        """Takes the tokens of this membership; idle connections to members that left are ended."""
        self._tokens = {key: each.token for key, each in membership.datasets.items()}
        addresses = {member.address for member in membership.members}
        self._gets.forget(self._gets.addresses - addresses)
        for address in set(self._idle) - addresses:
            for connection in self._idle.pop(address):
                connection.close()

    async def read(
        self,
        member: Member,
        request: PeerRequest,
        take: TakePiece,
        *,
        seconds: float,
        only_cached: bool = False,
        piece_bytes: int = PIECE_BYTES,
    ) -> str:
        """Hands a range to `take` in pieces of whole blocks, in order; returns where the peer had
        it from, `FROM_CACHE` or `FROM_SOURCE`.

        Every piece is verified before it is handed over. `take` is called in another thread, never
        after this has returned or raised; after an error some pieces may have been taken. Raises
        PeerError, SourceError when the owner could not fetch it, and what `take` raises.
        """

        def receive(transfer: PeerTransfer[str]) -> str:
            return receive_range(transfer, request, take, piece_bytes, self._buffer)

        target = protocol.object_target(request, only_cached=only_cached)
        return await self._ask(member, request, "GET", target, b"", receive, seconds)

    async def get(
        self,
        member: Member,
        request: PeerRequest,
        *,
        seconds: float,
        only_cached: bool = False,
    ) -> tuple[Buffer, str]:
        """The bytes of a short range (`peer_gets.MOST_BYTES` at most), verified, and where the peer
        had them from. The quickest way for one small object. Raises PeerError, SourceError.
        """
        target = protocol.object_target(request, only_cached=only_cached)
        message = self._message(member, request, "GET", target, b"", seconds)
        return await self._gets.get(member, request, message, seconds)

    async def read_into(
        self,
        member: Member,
        request: PeerRequest,
        into: memoryview,
        *,
        seconds: float,
        only_cached: bool = False,
    ) -> str:
        """Fills `into`, which is as long as the range; only when this returns, as `read` does, are
        the bytes in it verified. Raises PeerError, SourceError.
        """

        def receive(transfer: PeerTransfer[str]) -> str:
            def place(offset: int, length: int) -> memoryview:
                return into[offset - request.start : offset - request.start + length]

            return receive_range(transfer, request, None, PIECE_BYTES, place)

        target = protocol.object_target(request, only_cached=only_cached)
        return await self._ask(member, request, "GET", target, b"", receive, seconds)

    async def read_batch(
        self,
        member: Member,
        requests: Sequence[PeerRequest],
        take: TakeObject,
        *,
        seconds: float,
        only_cached: bool = False,
    ) -> list[FluidpyError | None]:
        """Hands whole small objects of one Dataset to `take`, each verified; returns what each one
        failed with, None for those that were taken.

        Objects may have MOST_SMALL_BYTES each and MOST_BATCH_BYTES together. `take` is called in
        another thread, never after this has returned or raised. Raises PeerError when not one
        object was answered, and what `take` raises.
        """
        waiting = not_come()
        outcome: list[FluidpyError | None] = [waiting] * len(requests)

        def receive(transfer: PeerTransfer[None]) -> None:
            receive_batch(transfer, requests, take, outcome, self._buffer)

        body = protocol.batch_body(requests, only_cached=only_cached)
        target = f"{protocol.dataset_path(requests[0].dataset)}/batch"
        try:
            await self._ask(member, requests[0], "POST", target, body, receive, seconds)
        except PeerError as error:
            if all(each is waiting for each in outcome):
                raise
            return [error if each is waiting else each for each in outcome]
        return outcome

    async def presence(
        self, member: Member, requests: Sequence[PeerRequest], *, seconds: float
    ) -> list[Presence]:
        """What a peer has of each object: whole objects of one Dataset, MOST_BATCH_OBJECTS at
        most. Raises PeerError.
        """

        def receive(transfer: PeerTransfer[list[Presence]]) -> list[Presence]:
            body = receive_short(transfer, _MOST_PRESENCE_BYTES)
            try:
                return protocol.parse_presence(body, len(requests))
            except ValueError as error:
                raise transfer.connection.broken("sent an answer of no use") from error

        body = protocol.batch_body(requests, only_cached=True)
        target = f"{protocol.dataset_path(requests[0].dataset)}/presence"
        return await self._ask(member, requests[0], "POST", target, body, receive, seconds)

    def close(self) -> None:
        """Ends idle connections and threads; transfers under way end with their callers."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._gets.close()
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _ask(
        self,
        member: Member,
        request: PeerRequest,
        method: str,
        target: str,
        body: bytes,
        receive: _Receive[_Result],
        seconds: float,
    ) -> _Result:
        transfer = PeerTransfer(
            lambda: self._connection(member),
            self._keep,
            self._message(member, request, method, target, body, seconds),
            receive,
            time.monotonic() + seconds,
        )
        return await _run_to_its_end(self._threads, transfer)

    def _message(
        self,
        member: Member,
        request: PeerRequest,
        method: str,
        target: str,
        body: bytes,
        seconds: float,
    ) -> bytes:
        """The whole request. Raises ClusterError when the member cannot be asked yet."""
        token = self._tokens.get(request.dataset)
        if not token or not member.address:
            raise ClusterError(
                f"worker {member.name} cannot be asked for Dataset {request.dataset} yet",
                cure="Wait until the membership file names its address and the Dataset.",
            )
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {member.address}\r\n"
            f"Authorization: Bearer {token}\r\n"
            f"{protocol.DEFINITION_HEADER}: {request.definition}\r\n"
            f"{protocol.DEADLINE_HEADER}: {seconds * DEADLINE_SHARE:.3f}\r\n"
        )
        if method == "POST":
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    def _connection(self, member: Member) -> PeerConnection:
        """A kept connection that was used lately, else a new one; called in a thread."""
        idle = self._idle.get(member.address, [])
        now = time.monotonic()
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return PeerConnection(label_of(member), member.address, self._tls)
            if now - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.close()

    def _keep(self, connection: PeerConnection) -> None:
        connection.idle_since = time.monotonic()
        connection.used = True
        if self._closed:
            connection.close()
        else:
            self._idle.setdefault(connection.address, []).append(connection)

    def _buffer(self, _: int, length: int) -> memoryview:
        """A buffer of this thread, which its next transfer uses again."""
        found: memoryview | None = getattr(self._buffers, "buffer", None)
        if found is None or len(found) < length:
            found = self._buffers.buffer = page_aligned(max(length, PIECE_BYTES))
        return found[:length]


async def _run_to_its_end(threads: ThreadPoolExecutor, transfer: PeerTransfer[_Result]) -> _Result:
    """Runs a transfer in a thread; when cancelled, aborts it and waits until it has ended.

    The caller may reuse what is written to at once, whichever way this returns.
    """
    work = asyncio.get_running_loop().run_in_executor(threads, transfer.run)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        transfer.abort()
        work.cancel()  # if it has not begun
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise
