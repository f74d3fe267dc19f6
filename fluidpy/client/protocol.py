"""The worker's protocol: one `SOCK_SEQPACKET` message = one JSON object and, beside it, fds.

Requests are `{"id": n, "op": "…", "deadline": seconds, …}` with `n` ≥ 1. Answers carry the same
`id` and either `"ok": {…}` or `"error": {"type", "message", "cure"}`; answers with `"more": true`
report progress and are followed by others. The worker pushes `{"event": "…", …}` without an id.

A request without `id` is *one-way*: it gets no answer, not even an error. `close` is sent so, with
`"handles": [h, …]`, and any request may carry `"closed": [h, …]`: handles to release before the
request itself is looked at (after it, if it is an `open`). `read_locally` is one-way too: what a
client read without asking. All spare a client the wait.

A message longer than the socket takes (a Dataset with a thousand mounts) travels in a memfd, the
last of its fds, beside the message `{"carried": bytes}`; `send` and `receive` see to that.

Bulk data never travels inside a message: it goes through passed fds (cache files, memfds).

Names are `str` as `os.fsdecode` makes them; JSON escapes their surrogates. Versions are hex text.
"""

from __future__ import annotations

import array
import json
import os
import resource
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

from fluidpy.errors import FluidpyError, WorkerError, from_wire

PROTOCOL_VERSION: Final = 1
"""Grows with every incompatible change; `hello` compares it."""

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""Largest message in bytes; below Linux's default socket buffer of 208 KiB (`wmem_default`)."""

MAX_CARRIED_BYTES: Final = 16 * 1024 * 1024
"""Largest message in a memfd: the definition of a Dataset with tens of thousands of mounts."""

MAX_FDS: Final = 16
"""Most fds beside one message; the kernel's own limit is 253 (`SCM_MAX_FD`)."""

MAX_INLINE_ENTRIES_BYTES: Final = 64 * 1024
"""A `list` answer whose JSON lines are longer than this goes through a memfd."""

Message: TypeAlias = dict[str, Any]


class Operation(StrEnum):
    """What a client may ask of the worker."""

    HELLO = "hello"
    ATTACH = "attach"
    DETACH = "detach"
    LOOKUP = "lookup"
    RESOLVE = "resolve"
    LIST = "list"
    OPEN = "open"
    READ = "read"
    READ_LOCALLY = "read_locally"
    CLOSE = "close"
    INVALIDATIONS = "invalidations"
    LEASE = "lease"
    USED = "used"
    LOAD = "load"
    USAGE = "usage"
    CACHE_LIST = "cache_list"
    PIN = "pin"
    EVICT = "evict"
    SCRUB = "scrub"
    STATUS = "status"
    STOP = "stop"


EVENT_CHANGED: Final = "changed"
"""The event that `invalidations` subscribes to."""

EVENT_EVICTED: Final = "evicted"
"""Leased cache files have left: `rows` of `dataset` (see `lease`)."""

ENTRY_FIELDS: Final = (
    "id",
    "parent",
    "name",
    "kind",
    "size",
    "mtime_ns",
    "mode",
    "ino",
    "version",
    "mount",
    "live",
)
"""Order of an entry's values on the wire (a JSON array); the fields of the catalog's `Entry`."""


EntryTuple: TypeAlias = tuple[int, int, bytes, int, int, int, int | None, int, bytes, int, bool]
"""What goes on the wire as an entry; the catalog's `Entry` and `RemoteEntry` both are one."""


class RemoteEntry(NamedTuple):
    """An entry as a client holds it: the catalog's fields, without importing the catalog."""

    id: int
    parent: int
    name: bytes
    kind: int
    size: int
    mtime_ns: int
    mode: int | None
    ino: int
    version: bytes
    mount: int
    live: bool


class Received(NamedTuple):
    """One message and the fds that came with it; whoever takes it owns the fds."""

    message: Message
    fds: list[int]


def entry_to_wire(entry: EntryTuple) -> list[Any]:
    """The JSON array of an entry, in the order of `ENTRY_FIELDS`."""
    identifier, parent, name, kind, size, mtime_ns, mode, ino, version, mount, live = entry
    return [
        identifier,
        parent,
        os.fsdecode(name),
        int(kind),
        size,
        mtime_ns,
        mode,
        ino,
        version.hex(),
        mount,
        1 if live else 0,
    ]


def entry_from_wire(wire: Sequence[Any]) -> RemoteEntry:
    """The entry that `entry_to_wire` described. Raises WorkerError for anything else."""
    try:
        identifier, parent, name, kind, size, mtime_ns, mode, ino, version, mount, live = wire
        return RemoteEntry(
            identifier,
            parent,
            os.fsencode(name),
            kind,
            size,
            mtime_ns,
            mode,
            ino,
            bytes.fromhex(version),
            mount,
            bool(live),
        )
    except (TypeError, ValueError) as error:
        raise _broken(f"an entry has not the fields {', '.join(ENTRY_FIELDS)}") from error


def encode_entries(entries: Iterable[EntryTuple]) -> bytes:
    """Entries as JSON lines, for the memfd of a long listing."""
    return b"".join(encode(entry_to_wire(entry)) + b"\n" for entry in entries)


def decode_entries(data: bytes) -> Iterator[RemoteEntry]:
    """The entries of `encode_entries`. Raises WorkerError for anything else."""
    for line in data.splitlines():
        try:
            wire = json.loads(line)
        except ValueError as error:
            raise _broken("a listing is not JSON lines") from error
        yield entry_from_wire(wire)


def read_entries(fd: int) -> Iterator[RemoteEntry]:
    """The entries that a file holds. Raises WorkerError when it is cut off, or not a listing."""
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    if len(data) != size:
        raise WorkerError(
            "a listing passed by the worker was cut off", cure="List the folder again."
        )
    return decode_entries(data)


_encoder = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


_decoder = json.JSONDecoder()


def encode(value: Any) -> bytes:
    """Compact ASCII JSON."""
    return _encoder.encode(value).encode("ascii")


def decode(data: bytes | bytearray | memoryview) -> Message:
    """The JSON object of one message. Raises WorkerError when it is not one."""
    try:
        value = _decoder.decode(str(data, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise _broken("a message is not JSON") from error
    if not isinstance(value, dict):
        raise _broken("a message is not a JSON object")
    return value


def request(identifier: int, operation: str, deadline: float, fields: Mapping[str, Any]) -> Message:
    """A request; `deadline` is how many seconds from now the answer is still wanted."""
    return {"id": identifier, "op": operation, "deadline": deadline, **fields}


def answer(identifier: int, ok: Mapping[str, Any], *, more: bool = False) -> Message:
    """The answer to a request; `more` when others follow (progress)."""
    message: Message = {"id": identifier, "ok": ok}
    if more:
        message["more"] = True
    return message


def failure(identifier: int, error: FluidpyError) -> Message:
    """The answer to a request that failed."""
    return {"id": identifier, "error": error.to_wire()}


def event(name: str, fields: Mapping[str, Any]) -> Message:
    """A message that the worker pushes."""
    return {"event": name, **fields}


def ok_of(message: Message) -> Message:
    """The values of an answer. Raises the error that the worker reported."""
    if (error := message.get("error")) is not None:
        raise from_wire(error)
    ok = message.get("ok")
    if not isinstance(ok, dict):
        raise _broken("an answer has neither `ok` nor `error`")
    return ok


def new_socket() -> socket.socket:
    """A socket of the protocol's family and type, closed on exec."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(connection: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Sends one message whole; the caller keeps its own fds.

    One that is too long for the socket travels in a memfd, beside a message that says so. Raises
    WorkerError when it is too long for that, BlockingIOError on a full non-blocking socket,
    OSError (BrokenPipeError, ConnectionResetError, TimeoutError) when the peer is gone or slow.
    """
    data = encode(message)
    if len(data) <= MAX_MESSAGE_BYTES:
        _send(connection, data, fds)
        return
    if len(data) > MAX_CARRIED_BYTES:
        raise WorkerError(
            f"a message of {len(data)} bytes is longer than the protocol's {MAX_CARRIED_BYTES}",
            cure="Ask for less at once; split a Dataset that has so many mounts.",
        )
    carrier = os.memfd_create("fluidpy-message", os.MFD_CLOEXEC)
    try:
        with open(carrier, "wb", closefd=False) as stream:
            stream.write(data)
        _send(connection, encode({_CARRIED: len(data)}), (*fds, carrier))
    finally:
        os.close(carrier)


def _send(connection: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    if len(fds) > MAX_FDS:
        raise WorkerError(
            f"{len(fds)} fds are more than the protocol's {MAX_FDS}",
            cure="Report it: a message was built wrongly.",
        )
    control = (
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
    )
    connection.sendmsg((data,), control, _SEND_FLAGS)


_CARRIED: Final = "carried"
_INT_BYTES: Final = array.array("i").itemsize
_CUT_OFF: Final = int(socket.MSG_TRUNC)
_FDS_CUT_OFF: Final = int(socket.MSG_CTRUNC)
_RECEIVE_FLAGS: Final = int(socket.MSG_CMSG_CLOEXEC)
_SEND_FLAGS: Final = int(socket.MSG_NOSIGNAL)
"""Plain ints: operators of `socket.MsgFlag` cost more than the system call."""
_CONTROL_BYTES: Final = socket.CMSG_SPACE(MAX_FDS * _INT_BYTES)


def receive(connection: socket.socket, buffer: bytearray | None = None) -> Received | None:
    """The next message, or None when the peer closed the connection.

    Fds arrive closed-on-exec; an answer whose fds find no room in this process becomes a failure
    that says so. `buffer` (of `MAX_MESSAGE_BYTES`) spares an allocation a call.
    Raises WorkerError for a broken message (its fds are closed), BlockingIOError on an empty
    non-blocking socket, OSError (ConnectionResetError, TimeoutError) as sockets do.
    """
    if buffer is None:
        buffer = bytearray(MAX_MESSAGE_BYTES)
    size, control, flags, _ = connection.recvmsg_into((buffer,), _CONTROL_BYTES, _RECEIVE_FLAGS)
    fds = _received_fds(control) if control else []
    if size == 0:
        close_all(fds)
        return None
    try:
        if flags & _CUT_OFF:
            raise _broken("a message was cut off")
        message = decode(memoryview(buffer)[:size])
        if not flags & _FDS_CUT_OFF:
            if _CARRIED in message:
                message = _unpack_carried(fds)
            return Received(message, fds)
        message = _answer_without_fds(message)
    except WorkerError:
        close_all(fds)
        raise
    close_all(fds)
    return Received(message, [])


def _unpack_carried(fds: list[int]) -> Message:
    """The message in the last fd, which is taken out and closed."""
    if not fds:
        raise _broken("a message came without its memfd")
    carrier = fds.pop()
    try:
        size = os.fstat(carrier).st_size
        if size > MAX_CARRIED_BYTES:
            raise _broken(f"a message has {size} bytes")
        return decode(os.pread(carrier, size, 0))
    finally:
        os.close(carrier)


def _answer_without_fds(message: Message) -> Message:
    """The failure in place of an answer whose fds the kernel could not give us (EMFILE)."""
    if "ok" not in message:
        raise _broken("the fds of a message were cut off")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    error = WorkerError(
        f"this process has all the {limit} files open that it may have",
        cure="Close some, or raise its limit: ulimit -n (in Python resource.setrlimit).",
    )
    return failure(int(message.get("id", 0)), error)


def _received_fds(control: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _INT_BYTES])
    return fds.tolist()


def close_all(fds: Iterable[int]) -> None:
    """Closes fds that came with a message nobody wants."""
    for fd in fds:
        os.close(fd)


def _broken(what: str) -> WorkerError:
    return WorkerError(
        f"the worker's protocol was broken: {what}",
        cure="Stop the worker (`fluidpy worker --stop`) in case it is of another version.",
    )
