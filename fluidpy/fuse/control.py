"""What the processes of a mount say to each other, over `SOCK_SEQPACKET` pairs.

Whoever mounts orders the holder, the holder orders the server. Orders hold the Dataset's secrets:
they travel in a socket, never in arguments or the environment.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluidpy.client import protocol
from fluidpy.client.protocol import Message
from fluidpy.errors import MountError
from fluidpy.namespace.definition import DatasetDefinition


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """What a server is to serve. `uid` and `gid` own the files unless the Dataset says who does."""

    definition: DatasetDefinition
    directory: Path
    uid: int
    gid: int
    holder_pid: int

    def to_wire(self) -> Message:
        """Plain values for the control socket; holds the secrets."""
        return {
            "definition": self.definition.to_wire(),
            "directory": os.fspath(self.directory),
            "uid": self.uid,
            "gid": self.gid,
            "holderPid": self.holder_pid,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ServerOrder:
        """The order that `to_wire` described."""
        return cls(
            DatasetDefinition.from_wire(wire["definition"]),
            Path(wire["directory"]),
            wire["uid"],
            wire["gid"],
            wire["holderPid"],
        )


@dataclass(frozen=True, slots=True)
class HolderOrder:
    """What a holder is to mount. `file` and `url` say where the Dataset was declared."""

    definition: DatasetDefinition
    directory: Path
    file: Path | None
    url: str | None
    deadline: float

    def to_wire(self) -> Message:
        """Plain values for the control socket; holds the secrets."""
        return {
            "definition": self.definition.to_wire(),
            "directory": os.fspath(self.directory),
            "file": None if self.file is None else os.fspath(self.file),
            "url": self.url,
            "deadline": self.deadline,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> HolderOrder:
        """The order that `to_wire` described."""
        return cls(
            DatasetDefinition.from_wire(wire["definition"]),
            Path(wire["directory"]),
            None if wire["file"] is None else Path(wire["file"]),
            wire["url"],
            wire["deadline"],
        )


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def tell(channel: socket.socket, message: Message, fds: tuple[int, ...] = ()) -> bool:
    """Sends a message; false when the other side is gone."""
    try:
        protocol.send(channel, message, fds)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def hear(channel: socket.socket, limit: float) -> protocol.Received | None:
    """The next message before `limit` (a `time.monotonic` value); None when the other side ended.

    Raises MountError when nothing came in time.
    """
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    left = limit - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise MountError(
            "a process of the mount did not answer in time",
            cure="Look at the log of the mount in the runtime directory, and mount again.",
        )
    try:
        return protocol.receive(channel)
    except ConnectionResetError:
        return None


def receive_first(channel: socket.socket) -> Message:
    """The order, which is there before the process is started. Raises MountError without one."""
    received = protocol.receive(channel)
    if received is None:
        raise MountError("the process that ordered the mount is gone", cure="Mount again.")
    protocol.close_all(received.fds)
    return received.message


def receive_device(channel: socket.socket) -> int | None:
    """Waits for the device fd; None when the holder ended instead."""
    received = protocol.receive(channel)
    if received is None or not received.fds:
        return None
    protocol.close_all(received.fds[1:])
    return received.fds[0]


def harden_process() -> None:
    """What every process of a mount does first: no core file (secrets), plain log lines."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(process)d %(levelname)s %(message)s",
    )
