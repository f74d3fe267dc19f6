"""`mount --upgrade`: has the holder of a mount go on with the code that this process runs."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluidpy.client.start import worker_environment
from fluidpy.errors import MountError, from_wire
from fluidpy.fuse import control, holder_socket
from fluidpy.fuse.mount_checks import plain_path
from fluidpy.fuse.mount_record import log_path, read_record, record_path
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.settings import Settings

EXTRA_SECONDS: Final = 60.0
"""Beside reaching the worker: starting an interpreter, and draining the old server."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The pids of the server before and of the one that serves now."""

    old: int
    new: int


def upgrade(directory: Path, settings: Settings) -> Upgraded:
    """Replaces the server of a mount; returns once the new one serves. Its readers go on.

    Raises MountError when nothing of ours is mounted there or its holder is gone, and what keeps
    the new server from starting: then the old one goes on serving.
    """
    directory = plain_path(directory)
    _check(directory, settings)
    limit = time.monotonic() + settings.source_deadline_seconds + EXTRA_SECONDS
    order = {
        "executable": sys.executable,
        "pythonPath": worker_environment(settings)["PYTHONPATH"],
    }
    with holder_socket.connect(settings, directory) as connection:
        control.tell(connection, {"upgrade": order})
        received = control.hear(connection, limit)
    message = {} if received is None else received.message
    if "upgraded" in message:
        return Upgraded(int(message["upgraded"]["old"]), int(message["upgraded"]["new"]))
    if "failed" in message:
        raise from_wire(message["failed"])
    raise MountError(
        f"the holder of {directory} ended meanwhile",
        cure=f"Look at {log_path(settings, directory)}.",
    )


def _check(directory: Path, settings: Settings) -> None:
    point = mounted_at(directory)
    if point is None:
        raise MountError(
            f"nothing is mounted at {directory}", cure="`fluidpy status` lists the mounts."
        )
    if not point.ours:
        raise MountError(
            f"{directory} is a mount of {point.file_system}, not of fluidpy",
            cure="`fluidpy status` lists the mounts.",
        )
    if read_record(record_path(settings, directory)) is None:
        raise MountError(
            f"the mount at {directory} is not one of this user, or of another runtime directory",
            cure="Upgrade it as whoever mounted it, with the same FLUIDPY_RUNTIME_DIR.",
        )
