"""The holder's side of an upgrade: a server of new code that is ready before the old one goes.

Until the new one serves, whatever goes wrong leaves the mount with servers of the old code.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from enum import Enum
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.protocol import Message
from fluidpy.errors import FluidpyError, MountError, from_wire
from fluidpy.fuse import control
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.holder_socket import refuse
from fluidpy.fuse.server_processes import Interpreter, ServerProcess
from fluidpy.fuse.server_reserve import ServerReserve

DRAIN_SECONDS: Final = 0.5
"""How long an old server answers what it has read, where the rest is asked again."""

LONG_DRAIN_SECONDS: Final = 20.0
"""The same where the rest would fail: kernels before Linux 6.9."""


class Stage(Enum):
    """How far an upgrade has come."""

    STARTING = "starting"
    DRAINING = "draining"
    TAKING_OVER = "taking over"


def interpreter_of(order: Message) -> Interpreter:
    """Which Python and code the command asked for; settings stay those of the mount."""
    environment = {**os.environ, "PYTHONPATH": str(order["pythonPath"])}
    return Interpreter(str(order["executable"]), environment)


class Upgrade:
    """One upgrade, from the command to its answer."""

    def __init__(
        self,
        loop: EventLoop,
        client: socket.socket,
        reserve: ServerReserve,
        old_pid: int,
        *,
        seconds: float,
        on_ready: Callable[[], None],
        on_failed: Callable[[], None],
    ) -> None:
        """Starts a server from the new `reserve`.

        `on_ready` is called when it waits for its turn, `on_failed` when it does not within
        `seconds`.
        """
        self._loop = loop
        self._client = client
        self.reserve = reserve
        self._old_pid = old_pid
        self._on_ready = on_ready
        self._on_failed = on_failed
        self.stage = Stage.STARTING
        self.server: ServerProcess = reserve.start(reach=True)
        self._error: FluidpyError | None = None
        self._over = False
        loop.watch(self.server.channel.fileno(), lambda _: self._on_message())
        loop.call_later(seconds, self._late)

    def _on_message(self) -> None:
        try:
            received = protocol.receive(self.server.channel)
        except OSError:
            received = None
        if received is None:
            self._loop.unwatch(self.server.channel.fileno())
            self.fail(
                self._error
                or MountError(
                    "the new server ended before it could serve; the old one goes on",
                    cure="The log of the mount says why.",
                )
            )
            return
        protocol.close_all(received.fds)
        message = received.message
        if "started" in message:
            self.server.started(int(message["started"]["pid"]))
        elif "failed" in message:
            self._error = from_wire(message["failed"])
        elif "attached" in message:
            self._loop.unwatch(self.server.channel.fileno())
            self.stage = Stage.DRAINING
            self._on_ready()

    def _late(self) -> None:
        if self.stage is Stage.STARTING and not self._over:
            self._loop.unwatch(self.server.channel.fileno())
            self.fail(
                MountError(
                    "the new server was not ready in time; the old one goes on",
                    cure="The log of the mount says why.",
                )
            )

    def fail(self, error: FluidpyError) -> None:
        """Gives up: the new server and its code are thrown away, and the command is told."""
        self.server.kill()
        self.server.release()
        self.reserve.end()
        self._answer({"failed": error.to_wire()})
        self._on_failed()

    def done(self, new_pid: int) -> None:
        """The new server serves."""
        self._answer({"upgraded": {"old": self._old_pid, "new": new_pid}})

    def _answer(self, message: Message) -> None:
        self._over = True
        control.tell(self._client, message)
        self._client.close()


def begin(
    client: socket.socket,
    command: Message,
    start: Callable[[socket.socket, Interpreter], Upgrade],
    *,
    busy: bool,
) -> Upgrade | None:
    """The upgrade that a command asks for; None, and the command is told why, when there is none.

    `busy`: another one is under way.
    """
    order = command.get("upgrade")
    if busy or not isinstance(order, dict):
        what = "the mount is being upgraded already" if busy else "the command is not known"
        refuse(client, MountError(what, cure="Wait until it is done, or mount again."))
        return None
    try:
        return start(client, interpreter_of(order))
    except (OSError, KeyError) as error:
        why = MountError(
            f"no new server can be started: {error}",
            cure="Look at the limits of processes and open files of this user.",
        )
        refuse(client, why)
        return None
