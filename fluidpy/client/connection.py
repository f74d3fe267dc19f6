"""One connection to the worker, shared by all threads of a process.

Any thread may call. Whoever waits first reads the socket for all (the leader) and hands answers to
their callers; when its own has come, another waiting thread leads. A single-threaded caller so pays
one send and one receive, and handles of open files are valid in every thread.

After a fork the child closes what it inherited without a word and connects anew. Every connection
has a *generation*: datasets and handles of the worker belong to the one that made them.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final

from fluidpy.cache.fork_safety import close_readers
from fluidpy.client import protocol
from fluidpy.client.background_start import wait_ready
from fluidpy.client.start import ensure_worker
from fluidpy.errors import FluidpyError, WorkerError, WorkerTimeoutError
from fluidpy.settings import Settings

_RELEASE_BATCH: Final = 16
"""Closed handles that wait for the next request before a message of their own is sent."""

_RELEASE_SECONDS: Final = 1.0
"""How long giving back handles may wait for room in the socket; then the connection is dropped."""

_RELEASE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of closed files that wait for the next request before a message of their own is sent."""


class LostConnectionError(WorkerError):
    """The worker ended, or the thing asked for belongs to a connection that is gone: ask again."""


class _Waiter:
    """A caller who waits for an answer."""

    __slots__ = ("_wake", "error", "on_progress", "received")

    def __init__(self, on_progress: Callable[[protocol.Message], None] | None) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self.received: protocol.Received | None = None
        self.error: FluidpyError | None = None
        self.on_progress = on_progress

    @property
    def done(self) -> bool:
        return self.received is not None or self.error is not None

    def wait(self, seconds: float) -> None:
        self._wake.acquire(timeout=seconds)

    def signal(self) -> None:
        """Ends `wait`, now or the next time; often is as good as once."""
        with suppress(RuntimeError):  # it was signalled already
            self._wake.release()


_generations = count(1)
"""One for all connections: ids of one worker are never taken for those of another."""


class WorkerConnection:
    """A blocking connection to this user's worker; connects on the first call."""

    def __init__(self, settings: Settings) -> None:
        """Connects on the first call, to the worker of these settings' runtime directory."""
        self.settings = settings
        self.generation = 0
        self.block_bytes = settings.block_bytes
        self.greeting: protocol.Message = {}
        """What the worker said of itself (`hello`)."""
        self._buffer = bytearray(protocol.MAX_MESSAGE_BYTES)
        self._identifiers = count(1)
        self._socket: socket.socket | None = None
        self._reset()
        _connections.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._waiters: dict[int, _Waiter] = {}
        self._released: list[int] = []
        self._released_bytes = 0
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    def connect(self, *, deadline: float | None = None) -> int:
        """Connects unless connected, starting the worker if need be; the generation.

        Raises as `ensure_worker` does, and WorkerError when the worker is of another version.
        """
        with self._lock:
            if self._socket is not None:
                return self.generation
            seconds = self.settings.worker_start_seconds if deadline is None else deadline
            limit = time.monotonic() + seconds
            connection = ensure_worker(self.settings, deadline=seconds)
            connection.setblocking(False)
            self._poll = select.poll()
            self._poll.register(connection, select.POLLIN)
            self._socket = connection
            self.generation = next(_generations)
            self._released.clear()
            self._released_bytes = 0
        try:
            self._hello(max(0.001, limit - time.monotonic()))
        except WorkerError:
            self.close()
            raise
        return self.generation

    def _hello(self, deadline: float) -> None:
        version = protocol.PROTOCOL_VERSION
        ok, _ = self.call(protocol.Operation.HELLO, deadline=deadline, version=version)
        if ok.get("version") != version:
            raise WorkerError(
                f"the running worker speaks protocol {ok.get('version')}, this client {version}",
                cure="Stop the worker (`fluidpy worker --stop`); the next use starts a new one.",
            )
        self.block_bytes = int(ok["block_bytes"])
        self.greeting = ok

    def call(
        self,
        operation: str,
        *,
        deadline: float,
        generation: int | None = None,
        on_progress: Callable[[protocol.Message], None] | None = None,
        **fields: Any,
    ) -> tuple[protocol.Message, list[int]]:
        """Asks the worker and waits: the values and the fds (the caller's to close).

        `deadline` is in seconds. `generation` names the connection that ids among the fields belong
        to. Raises the worker's own error, LostConnectionError (ask again), WorkerTimeoutError.
        """
        limit = time.monotonic() + deadline
        if self._socket is None and generation is None:
            self.connect(deadline=deadline)
        waiter = _Waiter(on_progress)
        identifier = next(self._identifiers)
        message = protocol.request(identifier, operation, deadline, fields)
        connection = self._enter(identifier, waiter, generation, message)
        try:
            self._send(connection, message, limit)
            self._wait(connection, waiter, limit, operation)
        finally:
            self._waiters.pop(identifier, None)
            self._promote()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.received is not None  # `_wait` ends with one of the two
        try:
            return protocol.ok_of(waiter.received.message), waiter.received.fds
        except FluidpyError:
            protocol.close_all(waiter.received.fds)
            raise

    def _enter(
        self, identifier: int, waiter: _Waiter, generation: int | None, message: protocol.Message
    ) -> socket.socket:
        with self._lock:
            connection = self._socket
            if connection is None or (generation is not None and generation != self.generation):
                raise LostConnectionError("the connection to the worker was lost")
            self._waiters[identifier] = waiter
            if self._released:
                message["closed"] = self._released
                self._released = []
                self._released_bytes = 0
        return connection

    def release(self, handle: int, generation: int, held_bytes: int) -> None:
        """Gives back the handle of an open file, now or with the next request.

        Waits for room in the socket at most, and never raises: closing a file cannot fail.
        """
        with self._lock:
            if self._socket is None or generation != self.generation:
                return
            self._released.append(handle)
            self._released_bytes += held_bytes
            if len(self._released) < _RELEASE_BATCH and self._released_bytes < _RELEASE_BYTES:
                return
            handles, self._released, self._released_bytes = self._released, [], 0
            connection = self._socket
        message = {"op": protocol.Operation.CLOSE, "handles": handles}
        try:
            self._send(connection, message, time.monotonic() + _RELEASE_SECONDS)
        except LostConnectionError:
            pass  # the worker closed them with the connection
        except WorkerTimeoutError as error:
            self._lose(connection, error)  # else the worker would hold these files for ever

    def tell(self, operation: str, generation: int, fields: Mapping[str, Any]) -> bool:
        """Sends a one-way request, or drops it where it would wait; never raises WorkerError.

        False when there is no such connection any more.
        """
        with self._lock:
            connection = self._socket
            if connection is None or generation != self.generation:
                return False
        try:
            protocol.send(connection, {"op": operation, **fields})
        except BlockingIOError:
            pass  # the worker is busy; what is told so may be lost
        except OSError as error:  # WorkerError is one too
            self._lose(connection, error)
            return False
        return True

    def _send(self, connection: socket.socket, message: protocol.Message, limit: float) -> None:
        while True:
            try:
                protocol.send(connection, message)
                return
            except BlockingIOError:
                left = limit - time.monotonic()
                if left <= 0 or not wait_ready(connection.fileno(), select.POLLOUT, left):
                    raise _too_slow(str(message["op"])) from None
            except OSError as error:
                if isinstance(error, WorkerError):
                    raise
                self._lose(connection, error)
                raise LostConnectionError(f"the worker cannot be asked: {error}") from error

    def _wait(
        self, connection: socket.socket, waiter: _Waiter, limit: float, operation: str
    ) -> None:
        while not waiter.done:
            left = limit - time.monotonic()
            if left <= 0:
                raise _too_slow(operation)
            if self._socket is connection and self._reading.acquire(blocking=False):
                try:
                    self._lead(connection, waiter, limit)
                finally:
                    self._reading.release()
                    if self._socket is not connection:
                        connection.close()
            else:  # somebody else reads; or whoever lost the connection is about to say so
                waiter.wait(left)

    def _lead(self, connection: socket.socket, waiter: _Waiter, limit: float) -> None:
        poll = self._poll
        if self._socket is not connection:
            return  # it may be closed, and its number another file's by now
        while not waiter.done:
            left = limit - time.monotonic()
            if left <= 0:
                return
            try:
                if not poll.poll(left * 1000):
                    return
                received = protocol.receive(connection, self._buffer)
            except BlockingIOError:
                continue
            except OSError as error:  # WorkerError of a broken message is one too
                self._lose(connection, error)
                return
            if received is None:
                self._lose(connection, None)
                return
            self._dispatch(received)

    def _promote(self) -> None:
        """Lets a waiting caller lead when nobody does."""
        if not self._waiters or self._reading.locked():
            return
        for other in list(self._waiters.values()):
            if not other.done:
                other.signal()
                return

    def _dispatch(self, received: protocol.Received) -> None:
        message, fds = received
        waiter = self._waiters.get(message.get("id", 0))
        if waiter is None:
            protocol.close_all(fds)
            handle = message.get("ok", {}).get("handle")
            if isinstance(handle, int):  # an open whose caller has given up
                self.release(handle, self.generation, 0)
        elif message.get("more"):
            protocol.close_all(fds)
            if waiter.on_progress is not None:
                waiter.on_progress(message.get("ok", {}))
        else:
            waiter.received = received
            waiter.signal()

    def _lose(self, connection: socket.socket, cause: OSError | None) -> None:
        with self._lock:
            if self._socket is not connection:
                return
            self._socket = None
            waiters, self._waiters = self._waiters, {}
        self._retire(connection)
        reason = f": {cause}" if cause else ""
        for waiter in waiters.values():
            if not waiter.done:
                waiter.error = LostConnectionError(f"the worker closed the connection{reason}")
                waiter.signal()

    def _retire(self, connection: socket.socket) -> None:
        """Closes a socket that may be read just now: then whoever leads closes it."""
        with suppress(OSError):  # the peer may have closed it first
            connection.shutdown(socket.SHUT_RDWR)
        if self._reading.acquire(blocking=False):
            connection.close()
            self._reading.release()

    def close(self) -> None:
        """Ends the connection; the next call makes a new one. Waiting callers are told."""
        connection = self._socket
        if connection is not None:
            self._lose(connection, None)


def _too_slow(operation: str) -> WorkerTimeoutError:
    return WorkerTimeoutError(
        f"the worker did not answer `{operation}` within the deadline",
        cure="Look at worker.log in the runtime directory, or try again.",
    )


_connections: weakref.WeakSet[WorkerConnection] = weakref.WeakSet()
_shared_lock = threading.Lock()


def connection_for(settings: Settings) -> WorkerConnection:
    """The connection that this process shares among all who have the same runtime directory."""
    key = os.fspath(settings.worker_directory)
    with _shared_lock:
        connection = _by_directory.get(key)
        if connection is None:
            connection = _by_directory[key] = WorkerConnection(settings)
        return connection


_by_directory: dict[str, WorkerConnection] = {}


def close_connections() -> None:
    """Ends every connection of this process, also to catalogs and indexes; the next call makes new
    ones.
    """
    close_readers()
    with _shared_lock:
        connections = list(_connections)
    for connection in connections:
        connection.close()


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for connection in list(_connections):
        connection._reset()


os.register_at_fork(after_in_child=_after_fork)
