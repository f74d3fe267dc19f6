"""The socket on which a holder hears commands of its user, beside the record of the mount.

It is reached through its directory's fd: a path of any length is too long for a unix socket.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.protocol import Message
from fluidpy.errors import MountError, WorkerError
from fluidpy.fuse.mount_record import socket_path
from fluidpy.settings import Settings

MESSAGE_SECONDS: Final = 2.0
"""How long one side may leave the other waiting in the middle of a message."""

_UCRED: Final = struct.Struct("iII")
"""`struct ucred` of unix(7): pid, uid, gid."""


@contextmanager
def _short(path: Path) -> Iterator[str]:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen(settings: Settings, directory: Path) -> socket.socket:
    """A socket for the mount at `directory`, in place of any that is there. Raises MountError."""
    path = socket_path(settings, directory)
    listener = protocol.new_socket()
    try:
        path.unlink(missing_ok=True)
        with _short(path) as short:
            listener.bind(short)
        listener.listen(4)
    except OSError as error:
        listener.close()
        raise MountError(
            f"the socket {path} cannot be made: {error}",
            cure="Set FLUIDPY_RUNTIME_DIR to a directory you may write.",
        ) from error
    listener.setblocking(False)
    return listener


def accept(listener: socket.socket) -> socket.socket | None:
    """The next connection of the same user; None when it was somebody else's, or is gone again."""
    try:
        peer, _ = listener.accept()
    except OSError:
        return None
    _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid != os.geteuid():
        peer.close()
        return None
    peer.settimeout(MESSAGE_SECONDS)
    return peer


def receive_command(listener: socket.socket) -> tuple[socket.socket, Message] | None:
    """The next command of the same user, and the connection to answer on; None when it is none."""
    peer = accept(listener)
    if peer is None:
        return None
    try:
        received = protocol.receive(peer)
    except (OSError, WorkerError):
        received = None
    if received is None:
        peer.close()
        return None
    protocol.close_all(received.fds)
    return peer, received.message


def refuse(client: socket.socket, error: MountError) -> None:
    """Answers a command with why not."""
    with client, suppress(OSError):
        protocol.send(client, {"failed": error.to_wire()})


def connect(settings: Settings, directory: Path) -> socket.socket:
    """A connection to the holder of the mount at `directory`. Raises MountError without one."""
    connection = protocol.new_socket()
    try:
        with _short(socket_path(settings, directory)) as short:
            connection.connect(short)
    except OSError as error:
        connection.close()
        raise MountError(
            f"the holder of the mount at {directory} cannot be reached: {error.strerror}",
            cure=f"Unmount and mount again: fluidpy umount {directory}",
        ) from error
    return connection
