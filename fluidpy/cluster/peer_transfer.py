"""One request to another worker and its answer, run in a thread: statuses, sums, frames."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from crc32c import crc32c

from fluidpy.cluster import peer_protocol as protocol
from fluidpy.cluster.membership import Member
from fluidpy.cluster.peer_connection import PeerConnection, broken
from fluidpy.cluster.peer_protocol import PeerRequest
from fluidpy.errors import (
    FluidpyError,
    PeerAbsentError,
    PeerBusyError,
    PeerCorruptError,
    PeerDefinitionError,
    PeerError,
    PeerRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
    SourceError,
)
from fluidpy.storage.http_connection import AnswerHead
from fluidpy.storage.under_storage import TakePiece

SUMMED_BYTES: Final = 256 * 1024
"""So many bytes are received at once before they are summed: half of a small second-level cache."""

HEAD_BYTES: Final = 2048
"""What is received at once of what lies between two chunks of a batch."""

MOST_CHUNK_BYTES: Final = 2 * protocol.MOST_SMALL_BYTES
"""Longest chunk of a batch: one object of the largest size, or many small ones, with frames."""

_MOST_ERROR_BYTES: Final = 64 * 1024

_KINDS: Final[Mapping[int, type[PeerError]]] = {
    404: PeerAbsentError,
    409: PeerDefinitionError,
    503: PeerBusyError,
    504: PeerTimeoutError,
}
"""Kinds of errors by status; others below 500 are refusals."""

TakeObject: TypeAlias = Callable[[int, memoryview], None]
"""Takes the bytes of the object with that number in its batch; they are valid during the call."""

Place: TypeAlias = Callable[[int, int], memoryview]
"""Where to receive bytes: for their offset in the object and their number."""

_Result = TypeVar("_Result")


class PeerTransfer(Generic[_Result]):
    """A request on its way; `abort` ends it from another thread."""

    head: AnswerHead
    connection: PeerConnection

    def __init__(
        self,
        connect: Callable[[], PeerConnection],
        keep: Callable[[PeerConnection], None],
        request: bytes,
        receive: Callable[[PeerTransfer[_Result]], _Result],
        deadline: float,
    ) -> None:
        """`connect` gives a connection, new or kept; `keep` takes back one that may be used again.
        `receive` reads the answer whose head has come. `deadline` is of the monotonic clock.
        """
        self._connect = connect
        self._keep = keep
        self._request = request
        self._receive = receive
        self.deadline = deadline
        self._lock = threading.Lock()
        self._aborted = False
        self._current: PeerConnection | None = None

    def run(self) -> _Result:
        """Asks, and what `receive` makes of the answer. Raises PeerError, and what that does."""
        connection = self.connection = self._asked()
        try:
            result = self._receive(self)
            connection.read_end(self.deadline)
        except _AnsweredError as answered:
            self._give_back(connection)
            raise answered.error from None
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return result

    def abort(self) -> None:
        """Makes `run` end soon with an error."""
        with self._lock:
            self._aborted = True
            if self._current is not None:
                self._current.abort()

    def _asked(self) -> PeerConnection:
        """The connection on which the head has come; one that died while idle is replaced."""
        while True:
            connection = self._connect()
            with self._lock:
                self._current = connection
                if self._aborted:
                    connection.close()
                    raise PeerUnreachableError(
                        f"reading from {connection.label} was broken off", cure="Read again."
                    )
            try:
                self.head = connection.ask(self._request, self.deadline)
            except PeerUnreachableError:
                connection.close()
                if not connection.used or connection.began:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection

    def _give_back(self, connection: PeerConnection) -> None:
        with self._lock:
            self._current = None
            aborted = self._aborted
        if self.head.keeps and not aborted:
            self._keep(connection)
        else:
            connection.close()


class _AnsweredError(Exception):
    """The answer is an error, read to its end."""

    def __init__(self, error: FluidpyError) -> None:
        super().__init__(str(error))
        self.error = error


def receive_range(
    transfer: PeerTransfer[str],
    request: PeerRequest,
    take: TakePiece | None,
    piece_bytes: int,
    place: Place,
) -> str:
    """Receives a range piece by piece to where `place` says, verifies each, hands it to `take`."""
    _check_status(transfer)
    connection, headers, length = transfer.connection, transfer.head.headers, transfer.head.length
    wanted = request.end - request.start
    if length != wanted:
        raise connection.broken(f"announced {length} of {wanted} bytes")
    block, sums = sums_of_head(connection.label, headers, wanted)
    step = max(block, piece_bytes // block * block)
    for position in range(request.start, request.end, step):
        piece = place(position, min(step, request.end - position))
        first = (position - request.start) // block
        if not _receive_intact(transfer, piece, block, sums[first:]):
            raise corrupt(connection.label, request)
        if take is not None:
            take(position, piece)
    return protocol.origin_of(headers)


def receive_batch(
    transfer: PeerTransfer[None],
    requests: Sequence[PeerRequest],
    take: TakeObject,
    outcome: list[FluidpyError | None],
    place: Place,
) -> None:
    """Receives the frames of a batch, noting in `outcome` how each object came out."""
    _check_status(transfer)
    connection, deadline = transfer.connection, transfer.deadline
    if transfer.head.length is not None:
        raise connection.broken("sent a batch that is none")
    block = _block_bytes(connection.label, transfer.head.headers)
    connection.gather_bytes = HEAD_BYTES
    frames = _Frames(connection, requests, block, take, outcome)
    while frames.number < len(requests):
        frames.take_all(connection.read_chunk(place, MOST_CHUNK_BYTES, deadline))


class _Frames:
    """The frames of a batch as they come; `number` is the object of the next one."""

    def __init__(
        self,
        connection: PeerConnection,
        requests: Sequence[PeerRequest],
        block: int,
        take: TakeObject,
        outcome: list[FluidpyError | None],
    ) -> None:
        self._connection = connection
        self._requests = requests
        self._block = block
        self._take = take
        self._outcome = outcome
        self.number = 0

    def take_all(self, chunk: memoryview) -> None:
        """Takes the objects of a chunk, which holds whole frames."""
        at = 0
        while at < len(chunk):
            if self.number == len(self._requests):
                raise self._connection.broken("sent more than it was asked for")
            try:
                at = self._next(chunk, at)
            except struct.error as error:
                raise self._connection.broken("sent a part of a frame") from error
            self.number += 1

    def _next(self, chunk: memoryview, at: int) -> int:
        """Takes the object of the frame at `at`; where the next one begins."""
        status: int
        blocks: int
        length: int
        status, _, blocks, length = protocol.FRAME.unpack_from(chunk, at)
        at += protocol.FRAME.size
        request = self._requests[self.number]
        if status != protocol.OK:
            body = chunk[at : at + length]
            if blocks or len(body) != length or length > _MOST_ERROR_BYTES:
                raise self._connection.broken("sent a frame of no use")
            self._outcome[self.number] = error_of(self._connection.label, status, bytes(body))
            return at + length
        if length != request.size or blocks != -(-length // self._block):
            raise self._connection.broken(f"sent {length} of {request.size} bytes")
        sums = struct.unpack_from(f"!{blocks}I", chunk, at)
        at += 4 * blocks
        data = chunk[at : at + length]
        if len(data) != length:
            raise self._connection.broken("sent a part of a frame")
        if not _intact(data, self._block, sums):
            error = self._outcome[self.number] = corrupt(self._connection.label, request)
            raise error
        self._take(self.number, data)
        self._outcome[self.number] = None
        return at + length


def receive_short(transfer: PeerTransfer[_Result], most: int) -> bytes:
    """A short body whole. Raises PeerError, also when it is longer than `most` bytes."""
    _check_status(transfer)
    return transfer.connection.read_short(transfer.head, most, transfer.deadline)


def label_of(member: Member) -> str:
    """What errors call a peer."""
    return f"worker {member.name} ({member.address})"


def not_come() -> FluidpyError:
    """Stands for an object of a batch that was not answered."""
    return PeerUnreachableError("the object did not come", cure="Read it elsewhere.")


def error_of(label: str, status: int, body: bytes) -> FluidpyError:
    """The error that an answer or a frame with this status and body tells; `label` is the peer."""
    told = protocol.parse_error(body)
    message = told.message if told is not None else f"it answered {status} and said nothing"
    cure = told.cure if told is not None else "Look at that worker's log."
    if isinstance(told, SourceError):
        kind: type[FluidpyError] = type(told)
    elif status == 404 and not isinstance(told, PeerAbsentError):
        kind = PeerRefusedError
    else:
        kind = _KINDS.get(status, PeerRefusedError if status < 500 else PeerError)
    return kind(f"{label}: {message}", cure=cure)


def _check_status(transfer: PeerTransfer[_Result]) -> None:
    status = transfer.head.status
    if status != protocol.OK:
        connection = transfer.connection
        body = connection.read_short(transfer.head, _MOST_ERROR_BYTES, transfer.deadline)
        raise _AnsweredError(error_of(connection.label, status, body))


def sums_of_head(label: str, headers: Mapping[str, str], length: int) -> tuple[int, Sequence[int]]:
    """Block size and checksums that the head of a range of `length` bytes tells.

    Raises PeerUnreachableError for a head that does not fit.
    """
    block = _block_bytes(label, headers)
    try:
        sums = protocol.parse_sums(headers.get(protocol.SUMS_HEADER.lower(), ""))
    except ValueError as error:
        raise broken(label, "sent checksums of no use") from error
    if len(sums) != -(-length // block):
        raise broken(label, f"sent {len(sums)} checksums for {length} bytes")
    return block, sums


def _block_bytes(label: str, headers: Mapping[str, str]) -> int:
    text = headers.get(protocol.BLOCK_HEADER.lower(), "")
    block = int(text) if text.isdecimal() and len(text) < 12 else 0
    if not 0 < block <= protocol.MOST_RANGE_BYTES:
        raise broken(label, "does not say how long its blocks are")
    return block


def _receive_intact(
    transfer: PeerTransfer[_Result], piece: memoryview, block: int, sums: Sequence[int]
) -> bool:
    """Fills `piece`, which begins at a block; whether each block has its sum.

    Bytes are summed while the processor has them in its cache.
    """
    connection, deadline = transfer.connection, transfer.deadline
    for number, at in enumerate(range(0, len(piece), block)):
        end = min(at + block, len(piece))
        found = 0
        for begin in range(at, end, SUMMED_BYTES):
            part = piece[begin : min(begin + SUMMED_BYTES, end)]
            connection.read_into(part, deadline)
            found = crc32c(part, found)
        if found != sums[number]:
            return False
    return True


def _intact(data: memoryview, block: int, sums: Sequence[int]) -> bool:
    """Whether each block has its sum; big ones are summed without the interpreter's lock."""
    if len(sums) == 1:
        return crc32c(data) == sums[0]
    return all(
        crc32c(data[at : at + block]) == expected
        for at, expected in zip(range(0, len(data), block), sums, strict=True)
    )


def corrupt(label: str, request: PeerRequest) -> PeerCorruptError:
    """The error for bytes that do not have their checksum."""
    return PeerCorruptError(
        f"{label}: bytes of {request.path!r} do not match their checksum",
        cure="They are read elsewhere; look at that machine's memory, disk and network.",
    )
