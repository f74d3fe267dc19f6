"""The server's side of the worker's socket: requests in flight, answered by callback.

Nothing here blocks the event loop. When the worker dies a helper thread reaches the next one
(starting it), attaches the Dataset again and takes the requests along that are still wanted;
each ends by its own deadline, whatever happens.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

from fluidpy.client import protocol
from fluidpy.client.protocol import Message, Operation
from fluidpy.errors import FluidpyError, WorkerError, WorkerTimeoutError
from fluidpy.fuse.event_loop import WRITABLE, EventLoop

SWEEP_SECONDS: Final = 0.25
"""How often requests past their deadline are looked for."""

ANSWER_GRACE_SECONDS: Final = 1.0
"""How long after its deadline an answer is waited for: the worker's own error says more."""

RECONNECT_SECONDS: Final = (0.05, 0.2, 0.5, 1.0)
"""Pauses before another try to reach a worker; the last one repeats."""

MISSED_SECONDS: Final = 60.0
"""Events of so long ago are told again to who may have missed them: longer than a mount may be
without a server, and than a busy server leaves events in its socket."""

_MESSAGES_A_TURN: Final = 64
"""Messages taken from the socket before the kernel's side has its turn."""


class LinkLostError(WorkerError):
    """The worker that was asked is gone, and ids among the request's fields were its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: values and fds (whoever takes them closes them), or an error."""

    ok: Message = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)
    error: FluidpyError | None = None


OnAnswer: TypeAlias = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class Attached:
    """A connected socket whose Dataset is attached, and what `hello` and `attach` said.

    `place` is the directory of a worker of the control plane's.
    """

    connection: socket.socket
    hello: Message
    dataset: Message
    place: Path | None = None


@dataclass(slots=True)
class _Pending:
    operation: str
    fields: dict[str, Any]
    limit: float
    on_answer: OnAnswer
    survives: bool


class WorkerLink:
    """Requests to the worker about one attached Dataset."""

    def __init__(
        self,
        loop: EventLoop,
        reach: Callable[[], Attached],
        *,
        on_attached: Callable[[Attached], None],
        on_event: Callable[[Message], None],
        on_trouble: Callable[[FluidpyError], None],
        on_lost_events: Callable[[], None],
    ) -> None:
        """`reach` blocks, in a helper thread, until a worker has attached the Dataset.

        `on_attached` is called for every worker after the first, before requests go on;
        `on_event` for what the worker pushes; `on_trouble` for each failure to reach one;
        `on_lost_events` when events were missed that the worker cannot tell again.
        """
        self._loop = loop
        self._reach = reach
        self._on_attached = on_attached
        self._on_event = on_event
        self._on_trouble = on_trouble
        self._on_lost_events = on_lost_events
        self._identifiers = count(1)
        self._pending: dict[int, _Pending] = {}
        self._outgoing: deque[Message] = deque()
        self._closed_handles: list[int] = []
        self._buffer = bytearray(protocol.MAX_MESSAGE_BYTES)
        self._socket: socket.socket | None = None
        self._dataset = 0
        self._failures = 0
        self._ended = False
        self._missed = False
        self.generation = 0
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

    @property
    def connected(self) -> bool:
        """Whether a worker is there at this moment."""
        return self._socket is not None

    def reach(self) -> None:
        """Begins without a worker: an earlier server's may have said things that nobody heard.

        So `on_attached` is called for the first one, too.
        """
        self._missed = True
        self._start_reaching()

    def adopt(self, attached: Attached, *, again: bool = False) -> None:
        """Goes on with a worker that has been reached; `again`: as if after another worker."""
        self._missed = self._missed or again
        if self._ended:
            attached.connection.close()
            return
        self._socket = attached.connection
        self._socket.setblocking(False)
        self._dataset = int(attached.dataset["dataset"])
        self._failures = 0
        self.generation += 1
        self._closed_handles.clear()
        self._loop.watch(self._socket.fileno(), self._on_ready)
        if self.generation > 1 or self._missed:
            self._on_attached(attached)
        missed = MISSED_SECONDS if self.generation > 1 or self._missed else 0.0
        fields = {"subscribe": True, "since": missed}
        self.call(Operation.INVALIDATIONS, fields, 60.0, self._subscribed)
        for identifier, pending in list(self._pending.items()):
            if pending.survives:
                self._send(self._message(identifier, pending))

    def _subscribed(self, answer: Answer) -> None:
        if answer.error is not None and not isinstance(answer.error, LinkLostError):
            self._on_trouble(answer.error)
        elif not answer.ok.get("complete", True):
            self._on_lost_events()

    def call(
        self,
        operation: str,
        fields: dict[str, Any],
        deadline: float,
        on_answer: OnAnswer,
        *,
        survives: bool = False,
    ) -> int:
        """Asks, within `deadline` seconds; the number is for `cancel`.

        A request that `survives` is put to the next worker when this one dies (and waits for one
        when there is none); another ends with LinkLostError.
        """
        identifier = next(self._identifiers)
        pending = _Pending(operation, fields, self._loop.clock() + deadline, on_answer, survives)
        if self._socket is None and not survives:
            lost = LinkLostError("the worker is gone")
            self._loop.call_later(0, lambda: on_answer(Answer(error=lost)))
            return identifier
        self._pending[identifier] = pending
        if self._socket is not None:
            self._send(self._message(identifier, pending))
        return identifier

    def cancel(self, identifier: int) -> None:
        """Nobody wants the answer any more; it is dropped, and a handle in it given back."""
        self._pending.pop(identifier, None)

    def release(self, handle: int, generation: int) -> None:
        """Gives back a handle of the worker with the next message; never waits."""
        if generation != self.generation or self._socket is None:
            return
        self._closed_handles.append(handle)
        if len(self._closed_handles) >= 64:
            self._flush_closed()

    def _flush_closed(self) -> None:
        if self._closed_handles and self._socket is not None:
            handles, self._closed_handles = self._closed_handles, []
            self._send({"op": Operation.CLOSE, "handles": handles})

    def _message(self, identifier: int, pending: _Pending) -> Message:
        left = max(0.001, pending.limit - self._loop.clock())
        fields = {"dataset": self._dataset, **pending.fields}
        message = protocol.request(identifier, pending.operation, left, fields)
        if self._closed_handles:
            message["closed"], self._closed_handles = self._closed_handles, []
        return message

    def _send(self, message: Message) -> None:
        if self._socket is None or self._outgoing:
            self._outgoing.append(message)
            return
        try:
            protocol.send(self._socket, message)
        except BlockingIOError:
            self._outgoing.append(message)
            self._loop.watch_writable(self._socket.fileno(), True)
        except OSError as error:
            self._lost_soon(error)

    def _send_waiting(self) -> None:
        while self._outgoing and self._socket is not None:
            try:
                protocol.send(self._socket, self._outgoing[0])
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            self._outgoing.popleft()
        if self._socket is not None:
            self._loop.watch_writable(self._socket.fileno(), False)

    def _on_ready(self, events: int) -> None:
        if events & WRITABLE:
            self._send_waiting()
        for _ in range(_MESSAGES_A_TURN):
            if self._socket is None:
                return
            try:
                received = protocol.receive(self._socket, self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if received is None:
                self._lose(None)
                return
            self._dispatch(received)

    def _dispatch(self, received: protocol.Received) -> None:
        message, fds = received
        if "event" in message:
            protocol.close_all(fds)
            self._on_event(message)
            return
        if message.get("more"):
            protocol.close_all(fds)
            return
        pending = self._pending.pop(message.get("id", 0), None)
        if pending is None:
            protocol.close_all(fds)
            handle = message.get("ok", {}).get("handle")
            if isinstance(handle, int):
                self.release(handle, self.generation)
            return
        try:
            answer = Answer(protocol.ok_of(message), fds)
        except FluidpyError as error:
            protocol.close_all(fds)
            answer = Answer(error=error)
        pending.on_answer(answer)

    def _lost_soon(self, error: OSError) -> None:
        """Reports a loss found while sending from the loop, not from inside the caller."""
        lost = self._socket
        self._loop.call_later(0, lambda: self._lose(error) if self._socket is lost else None)

    def _lose(self, cause: OSError | None) -> None:
        if self._socket is None:
            return
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._outgoing.clear()
        reason = f": {cause}" if cause else ""
        lost = LinkLostError(f"the worker closed the connection{reason}")
        self._start_reaching()
        fragile = [i for i, pending in self._pending.items() if not pending.survives]
        for identifier in fragile:
            self._pending.pop(identifier).on_answer(Answer(error=lost))

    def _start_reaching(self) -> None:
        if self._ended:
            return
        thread = threading.Thread(target=self._reach_in_thread, name="worker-reach", daemon=True)
        thread.start()

    def _reach_in_thread(self) -> None:
        try:
            attached = self._reach()
        except Exception as error:  # noqa: BLE001 - told, and tried again: a mount lives on
            failure = error if isinstance(error, FluidpyError) else _not_expected(error)
            self._loop.call_from_thread(lambda: self._not_reached(failure))
        else:
            self._loop.call_from_thread(lambda: self.adopt(attached))

    def _not_reached(self, error: FluidpyError) -> None:
        self._on_trouble(error)
        pause = RECONNECT_SECONDS[min(self._failures, len(RECONNECT_SECONDS) - 1)]
        self._failures += 1
        self._loop.call_later(pause, self._start_reaching)

    def _sweep(self) -> None:
        if self._ended:
            return
        self._flush_closed()
        limit = self._loop.clock() - ANSWER_GRACE_SECONDS * (1 if self._socket else 0)
        late = [i for i, pending in self._pending.items() if pending.limit < limit]
        for identifier in late:
            pending = self._pending.pop(identifier, None)
            if pending is not None:
                pending.on_answer(Answer(error=_too_late(pending.operation)))
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        """Ends the connection; requests in flight get no answer."""
        self._ended = True
        self._pending.clear()
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _not_expected(error: Exception) -> WorkerError:
    return WorkerError(
        f"the worker could not be reached: {type(error).__name__}: {error}",
        cure="It is tried again; look at worker.log in the runtime directory.",
    )


def _too_late(operation: str) -> WorkerTimeoutError:
    return WorkerTimeoutError(
        f"the worker did not answer `{operation}` within the deadline",
        cure="Look at worker.log in the runtime directory.",
    )
