"""The holder of one mount: `python -m fluidpy.fuse.holder --control FD`.

Tiny and single-threaded. It owns the device fd, so the connection to the kernel does not die with
a server. It starts the server, mounts once that has reached its Dataset, and watches it. It never
looks into its own mount: it would wait for the server it watches.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from fluidpy.errors import FluidpyError, MountError, from_wire
from fluidpy.fuse import control, kernel_mount
from fluidpy.fuse.mount_record import MountRecord, log_path, remove_record, write_record
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.settings import Settings, load_settings

_logger = logging.getLogger("fluidpy.fuse.holder")

SERVER_END_SECONDS: Final = 5.0
"""How long a server that closed its socket may take to end before it is killed."""

GRACE_SECONDS: Final = 5.0
"""How long users of a mount have to let go when the holder is told to end."""


class NextStep(Enum):
    """What a holder does when its server has ended."""

    FINISH = "finish"
    TAKE_DOWN = "take down"


def after_server(*, still_mounted: bool) -> NextStep:
    """The decision: a mount that is gone is finished, one without its server is taken down."""
    return NextStep.TAKE_DOWN if still_mounted else NextStep.FINISH


@dataclass(slots=True)
class ServerProcess:
    """A server that was started, and the socket shared with it."""

    process: subprocess.Popen[bytes]
    channel: socket.socket

    def end(self) -> int:
        """Waits until it has ended, by force if need be; its exit status.

        One that waits inside the kernel cannot be killed until its mount is taken down: its status
        counts as that of a killed one.
        """
        self.channel.close()
        for _ in range(2):
            try:
                return self.process.wait(timeout=SERVER_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return -signal.SIGKILL


def start_server(order: control.ServerOrder) -> ServerProcess:
    """Starts a server; it gets its socket and the log, and no other fd."""
    ours, theirs = control.socket_pair()
    control.tell(ours, order.to_wire())
    process = subprocess.Popen(
        [sys.executable, "-m", "fluidpy.fuse.server", "--control", str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        cwd="/",
    )
    theirs.close()
    return ServerProcess(process, ours)


class Holder:
    """One mount's life, from the order to the last unmount."""

    def __init__(
        self, order: control.HolderOrder, settings: Settings, channel: socket.socket
    ) -> None:
        """`channel` leads to the process that wants the mount, until it is ready."""
        self._order = order
        self._settings = settings
        self._channel = channel
        self._limit = time.monotonic() + order.deadline
        self._fd = -1
        self._negotiated: dict[str, Any] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> int:
        """Mounts, watches, and ends with the mount; the exit status."""
        self._listen_to_signals()
        server = start_server(self._server_order())
        try:
            self._bring_up(server)
        except FluidpyError as error:
            self._give_up(server)
            control.tell(self._channel, {"failed": error.to_wire()})
            return 1
        self._channel.close()
        return self._watch(server)

    def _server_order(self) -> control.ServerOrder:
        order = self._order
        return control.ServerOrder(
            order.definition, order.directory, os.geteuid(), os.getegid(), os.getpid()
        )

    def _bring_up(self, server: ServerProcess) -> None:
        self._hear(server, "attached")
        self._fd = kernel_mount.mount(self._order.directory, self._order.definition.key)
        control.tell(server.channel, {"serve": True}, (self._fd,))
        self._negotiated = self._hear(server, "negotiated")
        kernel_mount.raise_read_ahead(self._order.directory)
        record = self._record(server.process.pid)
        try:
            write_record(self._settings, record)
        except OSError as error:
            raise MountError(
                f"the record of the mount cannot be written: {error}",
                cure="Set FLUIDPY_RUNTIME_DIR to a directory you may write.",
            ) from error
        if not control.tell(self._channel, {"ready": record.to_wire()}):
            raise MountError("the process that ordered the mount is gone", cure="Mount again.")

    def _hear(self, server: ServerProcess, what: str) -> Any:
        received = control.hear(server.channel, self._limit)
        if received is None:
            raise MountError(
                f"the FUSE server ended before it was {what}",
                cure=f"Look at {log_path(self._settings, self._order.directory)}.",
            )
        if failed := received.message.get("failed"):
            raise from_wire(failed)
        return received.message.get(what)

    def _record(self, server_pid: int) -> MountRecord:
        definition = self._order.definition
        return MountRecord(
            mount_point=self._order.directory,
            dataset=definition.name,
            namespace=definition.namespace,
            holder_pid=os.getpid(),
            server_pid=server_pid,
            read_mode="plain",
            started_at=time.time(),
            file=self._order.file,
            url=self._order.url,
        )

    def _give_up(self, server: ServerProcess) -> None:
        mounted = self._fd >= 0
        server.process.kill()
        server.end()
        if mounted:
            self._take_down()

    def _listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

    def _watch(self, server: ServerProcess) -> int:
        poll = select.poll()
        poll.register(server.channel, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        grace: float | None = None
        while True:
            left = None if grace is None else max(0.0, grace - time.monotonic()) * 1000
            ready = dict(poll.poll(left))
            if server.channel.fileno() in ready:
                break
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
                grace = time.monotonic() + (GRACE_SECONDS if grace is None else 0.0)
                self._unmount_softly()
            elif grace is not None and time.monotonic() >= grace:
                _logger.warning("%s: users did not let go in time", self._order.directory)
                server.process.kill()
        return self._server_ended(server.end())

    def _unmount_softly(self) -> None:
        try:
            kernel_mount.unmount(self._order.directory)
        except kernel_mount.BusyMountError as error:
            _logger.warning("%s; detaching it", error)
            kernel_mount.unmount(self._order.directory, lazy=True)
        except MountError as error:
            _logger.error("%s", error)

    def _server_ended(self, status: int) -> int:
        directory = self._order.directory
        step = after_server(still_mounted=mounted_at(directory) is not None)
        if step is NextStep.TAKE_DOWN:
            _logger.error(
                "%s: the FUSE server ended (status %d), so the mount is taken down; mount the "
                "Dataset again",
                directory,
                status,
            )
            self._take_down()
        remove_record(self._settings, directory, os.getpid())
        return 0 if step is NextStep.FINISH else 1

    def _take_down(self) -> None:
        """Ends the connection: closing the last fd fails what still waits in the kernel."""
        os.close(self._fd)
        self._fd = -1
        try:
            kernel_mount.take_down(self._order.directory)
        except MountError as error:
            _logger.error("%s", error)


def main() -> int:
    """Holds the mount that the control socket orders."""
    parser = argparse.ArgumentParser(prog="fluidpy.fuse.holder")
    parser.add_argument("--control", type=int, required=True)
    channel = socket.socket(fileno=parser.parse_args().control)
    os.set_inheritable(channel.fileno(), False)
    control.harden_process()
    order = control.HolderOrder.from_wire(control.receive_first(channel))
    return Holder(order, load_settings(), channel).run()


if __name__ == "__main__":
    sys.exit(main())
