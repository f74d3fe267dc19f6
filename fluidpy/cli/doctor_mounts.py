"""`doctor`'s checks of what runs: the worker, and mounts, those whose server is gone among them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from fluidpy.cli.findings import Finding, Verdict
from fluidpy.client import protocol
from fluidpy.errors import FluidpyError
from fluidpy.fuse.mount_probe import probe
from fluidpy.fuse.mount_record import MountRecord
from fluidpy.fuse.mount_table import MountPoint
from fluidpy.settings import Settings, load_settings

# A healthy worker answers `hello` in well under a millisecond.
ANSWER_SECONDS = 3.0


def check_worker(settings: Settings) -> Finding:
    """Whether the worker answers; starts none."""
    socket_path = settings.worker_socket
    try:
        if not socket_path.exists():
            none = "none runs; the first mount, load or read starts one"
            return Finding("worker", Verdict.OK, none)
        greeting = _hello(socket_path)
    except (FileNotFoundError, ConnectionRefusedError):
        return Finding("worker", Verdict.OK, "the last one has ended; the next use starts another")
    except (OSError, FluidpyError) as error:
        return Finding(
            "worker",
            Verdict.BROKEN,
            f"it does not answer at {socket_path}: {error}",
            f"fluidpy worker --stop; its log is {settings.runtime_dir / 'worker.log'}",
        )
    pid, version = greeting.get("pid"), greeting.get("version")
    if version != protocol.PROTOCOL_VERSION:
        return Finding(
            "worker",
            Verdict.BROKEN,
            f"process {pid} speaks protocol {version}, this fluidpy {protocol.PROTOCOL_VERSION}",
            "fluidpy worker --stop; the next use starts one of this version.",
        )
    return Finding("worker", Verdict.OK, f"process {pid} answers at {socket_path}")


def _hello(socket_path: Path) -> protocol.Message:
    with protocol.new_socket() as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(os.fspath(socket_path))
        fields = {"version": protocol.PROTOCOL_VERSION}
        protocol.send(
            connection, protocol.request(1, protocol.Operation.HELLO, ANSWER_SECONDS, fields)
        )
        received = protocol.receive(connection)
        if received is None:
            raise ConnectionResetError("it closed the connection")
        protocol.close_all(received.fds)
        return protocol.ok_of(received.message)


def check_mounts(
    points: Sequence[MountPoint], records: Sequence[MountRecord] = (), *, clear: bool = False
) -> list[Finding]:
    """A finding for each mount of fluidpy that no longer answers; `clear` unmounts those.

    Each other one of `records`, this user's, is told with its read mode and the reason for it.
    """
    ours = [point.directory for point in points if point.ours]
    dead, living = [], []
    for directory in ours:
        error = _asked(directory)
        if error is None:
            living.append(directory)
        else:
            dead.append(_dead_mount(directory, error, clear))
    summary = Finding("mounts", Verdict.OK, f"{len(ours)}, all answer" if ours else "none")
    return [*(dead or [summary]), *(_read_mode(r) for r in records if r.mount_point in living)]


def _read_mode(record: MountRecord) -> Finding:
    reason = record.read_mode_reason or "no reason is recorded"
    message = f"{record.mount_point}: read mode {record.read_mode} ({reason})"
    return Finding("mounts", Verdict.OK, message)


def _asked(directory: Path) -> OSError | None:
    """What is wrong with a mount's answer; another user's mount may refuse to give this one any.

    Not `stat`: the kernel may answer that from what it remembers.
    """
    error = probe(lambda: os.statvfs(directory), ANSWER_SECONDS)
    return None if isinstance(error, PermissionError) else error


def _dead_mount(directory: Path, error: OSError, clear: bool) -> Finding:
    gone = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    why = "the process that served it is gone" if gone else f"it does not answer: {error.strerror}"
    if clear and gone:
        from fluidpy.fuse.mounting import unmount

        try:
            unmount(directory, load_settings())
        except FluidpyError as failure:
            why += f"; it could not be unmounted: {failure.message}"
        else:
            return Finding("mounts", Verdict.NOTE, f"{directory} was dead and is unmounted now")
    return Finding(
        "mounts",
        Verdict.BROKEN,
        f"{directory} is mounted, and {why}",
        f"fluidpy umount {directory}" + ("" if gone else " --lazy"),
    )
