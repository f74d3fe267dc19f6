"""What the processes of a mount say to each other, over `SOCK_SEQPACKET` pairs.

Whoever mounts orders the holder, the holder orders the server. Orders hold the Dataset's secrets:
they travel in a socket, never in arguments or the environment.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluidpy.client import protocol
from fluidpy.client.protocol import Message
from fluidpy.errors import MountError
from fluidpy.namespace.definition import DatasetDefinition


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """What an earlier server learnt of its Dataset when it attached it.

    With this the next one serves before it has reached a worker. `block_bytes` is the worker's
    unit; `cache` says how cache files are found (`cache_view`); `worker` is the pid of that worker,
    `place` its directory if it is one of the control plane's.
    """

    catalog: Path
    block_bytes: int
    cache: Mapping[str, Any]
    worker: int
    place: Path | None = None

    def to_wire(self) -> Message:
        """Plain values for the control socket."""
        return {
            "catalog": os.fspath(self.catalog),
            "blockBytes": self.block_bytes,
            "cache": self.cache,
            "worker": self.worker,
            "place": None if self.place is None else os.fspath(self.place),
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> KnownDataset:
        """What `to_wire` described."""
        place = wire.get("place")  # a server of older code does not tell
        return cls(
            Path(wire["catalog"]),
            int(wire["blockBytes"]),
            wire["cache"],
            int(wire["worker"]),
            None if place is None else Path(place),
        )


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """What a server is to serve. `uid` and `gid` own the files unless the Dataset says who does.

    `read_mode` is what was asked for (`auto`, `no-open`, `passthrough`, `plain`). Without `known`
    the server attaches the Dataset at the worker before it says that it can serve; one that is told
    to `reach` the worker does so, too, but asks nothing of the source.
    """

    definition: DatasetDefinition
    directory: Path
    uid: int
    gid: int
    holder_pid: int
    read_mode: str = "auto"
    known: KnownDataset | None = None
    reach: bool = False

    def to_wire(self, *, reach: bool = False) -> Message:
        """Plain values for the control socket; holds the secrets."""
        return {
            "definition": self.definition.to_wire(),
            "directory": os.fspath(self.directory),
            "uid": self.uid,
            "gid": self.gid,
            "holderPid": self.holder_pid,
            "readMode": self.read_mode,
            "known": None if self.known is None else self.known.to_wire(),
            "reach": reach or self.reach,
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
            wire["readMode"],
            None if wire["known"] is None else KnownDataset.from_wire(wire["known"]),
            wire["reach"],
        )


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a server takes over beside the device.

    `negotiated` is what an earlier server agreed with the kernel (None: INIT is still to come);
    `read_mode` the mode in use and why; `backings` pairs of row and backing id; `retired` the rows
    whose id was closed; `resend`: the kernel is asked to send again what is unanswered;
    `file_system` is the mount's device `MAJOR:MINOR`, empty from a holder that tells none.
    """

    negotiated: Mapping[str, Any] | None = None
    read_mode: Mapping[str, str] | None = None
    backings: Sequence[Sequence[int]] = ()
    retired: Sequence[int] = ()
    resend: bool = False
    file_system: str = ""

    def to_wire(self) -> Message:
        """Plain values for the control socket."""
        return {
            "fileSystem": self.file_system,
            "negotiated": self.negotiated,
            "readMode": self.read_mode,
            "backings": self.backings,
            "retired": self.retired,
            "resend": self.resend,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> HandOver:
        """What `to_wire` described."""
        return cls(
            wire["negotiated"],
            wire["readMode"],
            wire["backings"],
            wire["retired"],
            wire["resend"],
            str(wire.get("fileSystem", "")),
        )


@dataclass(frozen=True, slots=True)
class HolderOrder:
    """What a holder is to mount. `file` and `url` say where the Dataset was declared."""

    definition: DatasetDefinition
    directory: Path
    file: Path | None
    url: str | None
    deadline: float
    read_mode: str = "auto"

    def to_wire(self) -> Message:
        """Plain values for the control socket; holds the secrets."""
        return {
            "definition": self.definition.to_wire(),
            "directory": os.fspath(self.directory),
            "file": None if self.file is None else os.fspath(self.file),
            "url": self.url,
            "deadline": self.deadline,
            "readMode": self.read_mode,
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
            wire["readMode"],
        )


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def open_control(program: str) -> socket.socket:
    """The socket that `--control FD` of this process's command line names; hardens the process."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--control", type=int, required=True)
    channel = socket.socket(fileno=parser.parse_args().control)
    os.set_inheritable(channel.fileno(), False)
    harden_process()
    return channel


def tell(channel: socket.socket, message: Message, fds: tuple[int, ...] = ()) -> bool:
    """Sends a message; false when the other side is gone."""
    try:
        protocol.send(channel, message, fds)
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        return False  # a time-out, where the socket has one: it does not take our messages
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


def receive_hand_over(channel: socket.socket) -> tuple[HandOver, list[int]] | None:
    """Waits for the device; with it come its fd and that of the table of unanswered requests.

    None when the holder ended instead.
    """
    try:
        received = protocol.receive(channel)
    except ConnectionResetError:
        return None
    if received is None:
        return None
    if "serve" not in received.message or len(received.fds) != 2:
        protocol.close_all(received.fds)
        raise MountError(
            "the holder and the server of the mount do not understand each other",
            cure="Unmount and mount again.",
        )
    return HandOver.from_wire(received.message["serve"]), received.fds


def harden_process() -> None:
    """What every process of a mount does first: no core file (secrets), plain log lines."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(process)d %(levelname)s %(message)s",
    )
