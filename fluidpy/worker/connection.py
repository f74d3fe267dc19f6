"""One client's socket: messages in, answers out, neither ever blocking the loop.

Requests are handled straight from the reader callback; what cannot be answered at once becomes a
task with the request's deadline. Answers go out at once while the peer reads; else they queue, and
while too many queue nothing more is read from that peer. A peer that closes takes its tasks along.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from fluidpy.client import protocol
from fluidpy.client.start import peer_of
from fluidpy.errors import FluidpyError, UsageError, WorkerError, WorkerTimeoutError
from fluidpy.worker.requests import Answer, Progress, Reply, deadline_seconds

_log = logging.getLogger(__name__)

QUEUED_ANSWERS: Final = 64
"""Answers that may wait for a slow peer before its requests wait too."""

QUEUED_EVENTS: Final = 1024
"""Messages that may wait at all: a peer further behind than that is cut off, and attaches anew."""

REQUESTS_UNDER_WAY: Final = 8192
"""Tasks of one peer; a mount keeps up to 4096 kernel requests under way (its `max_background`)."""

_OPEN: Final = protocol.Operation.OPEN.value
_READ_LOCALLY: Final = protocol.Operation.READ_LOCALLY.value
"""A one-way request, like `close`."""

_buffer: Final = bytearray(protocol.MAX_MESSAGE_BYTES)
"""Messages are decoded before the next one is read, so that one buffer serves all."""


class Handler(Protocol):
    """Whoever answers the requests of one connection."""

    def handle(self, operation: str, request: protocol.Message, progress: Progress) -> Answer:
        """The reply, or a coroutine that brings it. Raises FluidpyError."""
        ...

    def release(self, handles: Sequence[int]) -> None:
        """Closes handles; unknown ones are passed over."""
        ...

    def close(self) -> None:
        """The connection is gone."""
        ...


class Connection:
    """Serves one accepted, non-blocking socket until the peer closes it."""

    def __init__(
        self,
        peer: socket.socket,
        handler_for: Callable[[Connection], Handler],
        on_close: Callable[[Connection], None],
    ) -> None:
        """Starts at once; `on_close` is called once, when the connection has ended."""
        self._socket = peer
        self._loop = asyncio.get_running_loop()
        self._handler = handler_for(self)
        self._on_close = on_close
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._queue: deque[tuple[protocol.Message, list[int]]] = deque()
        self._idle = asyncio.Event()
        """Set while nothing waits for the peer to read."""
        self._idle.set()
        self._reading = False
        self.closed = False
        self._resume()

    def peer_pid(self) -> int:
        """The process that connected; it may be gone, or have passed the socket on."""
        return peer_of(self._socket)[0]

    @property
    def busy(self) -> bool:
        """True while requests are under way."""
        return bool(self._tasks)

    async def drained(self) -> None:
        """Waits until the peer has read what was sent, or is gone."""
        await self._idle.wait()

    def push(self, name: str, fields: Mapping[str, Any]) -> None:
        """Sends an event; cuts the peer off when it does not read its events."""
        if len(self._queue) >= QUEUED_EVENTS:
            _log.warning("a client that does not read its events is cut off")
            self.close()
            return
        self._send(protocol.event(name, fields), (), owned=False)

    def close(self) -> None:
        """Ends the connection: cancels its requests, releases its handles."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, fds in self._queue:
            protocol.close_all(fds)
        self._queue.clear()
        self._idle.set()
        for task in list(self._tasks):
            task.cancel()
        self._handler.close()
        self._on_close(self)

    def _resume(self) -> None:
        if not (self._reading or self.closed):
            self._loop.add_reader(self._socket, self._readable)
            self._reading = True

    def _pause_if_flooded(self) -> bool:
        """Stops reading while the peer has too much under way; True when it is stopped."""
        flooded = len(self._queue) > QUEUED_ANSWERS or len(self._tasks) >= REQUESTS_UNDER_WAY
        if flooded and self._reading:
            self._loop.remove_reader(self._socket)
            self._reading = False
        return flooded

    def _readable(self) -> None:
        """Takes one message: the loop comes back while there are more, others in between."""
        try:
            received = protocol.receive(self._socket, _buffer)
        except BlockingIOError:
            return
        except OSError as error:
            if isinstance(error, WorkerError):
                _log.warning("a client is cut off: %s", error)
            self.close()
            return
        if received is None:
            self.close()
            return
        if received.fds:
            protocol.close_all(received.fds)
        self._take(received.message)
        if not self.closed:
            self._pause_if_flooded()

    def _take(self, request: protocol.Message) -> None:
        identifier, operation = request.get("id"), request.get("op")
        later = request.get("closed") if operation == _OPEN else None
        try:
            answer = self._answer(identifier, operation, request)
        except FluidpyError as error:
            self._fail(identifier, error)
        except Exception as error:  # noqa: BLE001 - unanswered, its client would wait to the end
            self._fail(identifier, _unexpected(error))
        else:
            if not isinstance(answer, Reply):
                self._begin(identifier, request, answer)
            elif identifier is not None:
                self._reply(identifier, answer)
        if later and not self.closed:
            self._handler.release(later)  # an open takes no room, so it need not wait for this

    def _answer(self, identifier: Any, operation: Any, request: protocol.Message) -> Answer:
        if operation != _OPEN and (closed := request.get("closed")):
            self._handler.release(closed)
        if operation == "close":
            self._handler.release(request.get("handles") or [request.get("handle", 0)])
            return Reply({})
        if identifier is None and operation == _READ_LOCALLY:
            return self._handler.handle(operation, request, lambda _: None)
        if type(identifier) is int and isinstance(operation, str):
            return self._handler.handle(operation, request, self._progress(identifier))
        raise UsageError(
            "a request has no `id` or no `op`",
            cure="Use a client of the same version as the worker.",
        )

    def _progress(self, identifier: int) -> Progress:
        def send(ok: protocol.Message) -> None:
            if not (self._queue or self.closed):
                self._send(protocol.answer(identifier, ok, more=True), (), owned=False)

        return send

    def _begin(
        self, identifier: Any, request: protocol.Message, work: Coroutine[Any, Any, Reply]
    ) -> None:
        try:
            seconds = deadline_seconds(request)
        except UsageError as error:
            work.close()
            self._fail(identifier, error)
            return
        task = self._loop.create_task(self._finish(identifier, request["op"], work, seconds))
        self._tasks[task] = identifier
        task.add_done_callback(self._ended)

    async def _finish(
        self, identifier: int, operation: str, work: Coroutine[Any, Any, Reply], seconds: float
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                reply = await work
        except FluidpyError as error:
            self._fail(identifier, error)
        except TimeoutError:
            self._fail(
                identifier,
                WorkerTimeoutError(
                    f"`{operation}` was not done within its {seconds:g} s",
                    cure="Try again, or give it longer.",
                ),
            )
        else:
            self._reply(identifier, reply)

    def _ended(self, task: asyncio.Task[None]) -> None:
        identifier = self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(identifier, _unexpected(error))
        if not self._pause_if_flooded():
            self._resume()

    def _fail(self, identifier: Any, error: FluidpyError) -> None:
        if type(identifier) is int:
            self._send(protocol.failure(identifier, error), (), owned=False)
        else:
            _log.warning("a one-way request failed: %s", error)

    def _reply(self, identifier: int, reply: Reply) -> None:
        self._send(protocol.answer(identifier, reply.ok), reply.fds, owned=reply.owned)

    def _send(self, message: protocol.Message, fds: Sequence[int], *, owned: bool) -> None:
        """Sends now or queues; a queued message has fds of its own, for handles may close first."""
        if self.closed or (not self._queue and self._sent(message, fds)):
            if owned:
                protocol.close_all(fds)
            return
        if not self._queue:
            self._loop.add_writer(self._socket, self._writable)
            self._idle.clear()
        self._queue.append((message, list(fds) if owned else [os.dup(fd) for fd in fds]))

    def _sent(self, message: protocol.Message, fds: Sequence[int]) -> bool:
        """False when the peer's buffer is full; true when sent, or when there is no peer."""
        try:
            protocol.send(self._socket, message, fds)
        except BlockingIOError:
            return False
        except WorkerError as error:
            return self._sent_too_long(message, error)
        except OSError:
            self.close()
        return True

    def _sent_too_long(self, message: protocol.Message, error: WorkerError) -> bool:
        _log.error("an answer could not be sent: %s", error)
        if type(identifier := message.get("id")) is int:
            return self._sent(protocol.failure(identifier, error), ())
        return True

    def _writable(self) -> None:
        while self._queue:
            message, fds = self._queue[0]
            if not self._sent(message, fds):
                return
            if self.closed:
                return
            protocol.close_all(fds)
            self._queue.popleft()
        self._loop.remove_writer(self._socket)
        self._idle.set()
        if not self._pause_if_flooded():
            self._resume()


def _unexpected(error: BaseException) -> WorkerError:
    """What to answer for an error that should not be; it is logged with where it came from."""
    _log.error("a request failed in a way it should not", exc_info=error)
    return WorkerError(
        f"the worker failed at this request: {type(error).__name__}",
        cure="Look at worker.log in the runtime directory, and report it.",
    )
