"""`doctor`'s checks of what runs: the worker, and mounts whose server is gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fluidpy.cli.findings import Finding, Verdict
from fluidpy.client import protocol
from fluidpy.errors import FluidpyError
from fluidpy.settings import Settings

# A healthy worker answers `hello` in well under a millisecond.
ANSWER_SECONDS = 3.0


def check_worker(settings: Settings) -> Finding:
    """Whether the worker answers; starts none."""
    socket_path = settings.worker_socket
    if not socket_path.exists():
        return Finding("worker", Verdict.OK, "none runs; the first mount, load or read starts one")
    try:
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


def check_mounts(mount_information: str | None = None) -> list[Finding]:
    """A finding for each FUSE mount of fluidpy that does not answer any more."""
    if mount_information is None:
        mount_information = Path("/proc/self/mountinfo").read_text()
    points = fluidpy_mount_points(mount_information)
    dead = [point for point in points if not answers(point)]
    if dead:
        return [
            Finding(
                "mounts",
                Verdict.BROKEN,
                f"{point} is mounted, and the process that served it is gone",
                f"fluidpy umount {point}",
            )
            for point in dead
        ]
    count = f"{len(points)} mounted, all answer" if points else "none"
    return [Finding("mounts", Verdict.OK, count)]


def fluidpy_mount_points(mount_information: str) -> list[str]:
    """Mount points of type `fuse.fluidpy` in the text of `/proc/self/mountinfo`."""
    points = []
    for line in mount_information.splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("fuse.fluidpy "):
            points.append(unescape(left.split()[4]))
    return points


def unescape(text: str) -> str:
    r"""A path as mountinfo writes it, with its octal escapes (`\040`) undone (proc(5))."""
    out, index = bytearray(), 0
    data = os.fsencode(text)
    while index < len(data):
        code = data[index + 1 : index + 4]
        if data[index : index + 1] == b"\\" and code.isdigit():
            out.append(int(code, 8) & 0xFF)
            index += 4
        else:
            out += data[index : index + 1]
            index += 1
    return os.fsdecode(bytes(out))


def answers(point: str) -> bool:
    """False for a mount whose connection the kernel has given up (ENOTCONN, ECONNABORTED)."""
    try:
        Path(point).stat()
    except OSError as error:
        return error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
    return True
