"""The FUSE server of one mount: `python -m fluidpy.fuse.server --control FD`.

The holder sends one message with the Dataset (it holds secrets, so it travels neither in arguments
nor in the environment), waits until the server has attached it at the worker, and then passes the
device fd. The server ends when the mount does, and unmounts when the holder dies.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Final

from fluidpy.client import protocol
from fluidpy.client.protocol import Message, Operation
from fluidpy.client.start import check_cache_directory, ensure_worker
from fluidpy.errors import FluidpyError, MountError, WorkerError
from fluidpy.fuse import control
from fluidpy.fuse.attributes import ROOT_ROW, Attributes
from fluidpy.fuse.device import Device
from fluidpy.fuse.directories import Directories, Freshness, time_to_live
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.files import Files
from fluidpy.fuse.kernel_mount import take_down
from fluidpy.fuse.mount_record import remove_record
from fluidpy.fuse.negotiation import LARGEST_READ_BYTES, Negotiated
from fluidpy.fuse.open_files import OpenFileTable
from fluidpy.fuse.range_reader import RangeReader
from fluidpy.fuse.requests_in_flight import RequestsInFlight, TroubleLog
from fluidpy.fuse.session import FuseSession
from fluidpy.fuse.statistics_of_tree import TreeStatistics
from fluidpy.fuse.worker_link import Attached, WorkerLink
from fluidpy.namespace.catalog import CatalogReader, Totals
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings, load_settings

_logger = logging.getLogger("fluidpy.fuse.server")

MOST_OPEN_FILES: Final = 65536
"""Upper bound of cache fds in one server, when the rlimit allows so many."""

TAKE_DOWN_SECONDS: Final = 30.0
"""How long a server whose holder is gone may take to unmount."""

_SPARE_FDS: Final = 64
"""Fds of the rlimit that are left for sockets, catalog and passed segments."""


def reach_worker(
    definition: DatasetDefinition, settings: Settings, *, first: bool = False
) -> Attached:
    """Connects to the worker (starting it), and attaches the Dataset. Blocks; has deadlines.

    Raises what the worker says of the Dataset, WorkerError when it cannot be reached, or when it
    caches elsewhere than is asked for and this is the `first` time: a mount that serves goes on
    with whatever worker came after that.
    """
    connection = ensure_worker(settings)
    connection.settimeout(settings.source_deadline_seconds + settings.worker_start_seconds)
    try:
        hello = ask(connection, 1, Operation.HELLO, version=protocol.PROTOCOL_VERSION)
        if hello.get("version") != protocol.PROTOCOL_VERSION:
            raise WorkerError(
                f"the running worker speaks protocol {hello.get('version')}, this mount "
                f"{protocol.PROTOCOL_VERSION}",
                cure="Stop the worker (`fluidpy worker --stop`); the next use starts a new one.",
            )
        if first:
            check_cache_directory(hello, settings)
        dataset = ask(connection, 2, Operation.ATTACH, definition=definition.to_wire())
    except FluidpyError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise WorkerError(
            f"the worker broke the connection: {error}",
            cure="Look at worker.log in the runtime directory.",
        ) from error
    return Attached(connection, hello, dataset)


def ask(connection: socket.socket, identifier: int, operation: str, **fields: Any) -> Message:
    """One request on a blocking connection that is not shared yet; the answer's values."""
    deadline = connection.gettimeout() or 60.0
    protocol.send(connection, protocol.request(identifier, operation, deadline, fields))
    while True:
        received = protocol.receive(connection)
        if received is None:
            raise WorkerError(
                "the worker closed the connection",
                cure="Look at worker.log in the runtime directory.",
            )
        protocol.close_all(received.fds)
        if received.message.get("id") == identifier and not received.message.get("more"):
            return protocol.ok_of(received.message)


class MountServer:
    """One mount's parts, put together, and its life."""

    def __init__(
        self, order: control.ServerOrder, settings: Settings, channel: socket.socket
    ) -> None:
        """`channel` is the socket shared with the holder."""
        self._order = order
        self._definition = order.definition
        self._settings = settings
        self._channel = channel
        self._loop = EventLoop()
        self._failure: MountError | None = None
        self._taking_down: threading.Thread | None = None
        label = f"{order.definition.key} at {order.directory}"
        self._trouble = TroubleLog(label)

    def attach(self) -> Attached:
        """Reaches the worker and has the root listed, so that a broken source shows at once."""
        attached = reach_worker(self._definition, self._settings, first=True)
        dataset = int(attached.dataset["dataset"])
        try:
            ask(attached.connection, 3, Operation.LIST, dataset=dataset, directory=ROOT_ROW)
        except (FluidpyError, OSError):
            attached.connection.close()
            raise
        return attached

    def serve(self, fd: int, attached: Attached) -> int:
        """Serves the device until the mount ends; the exit status."""
        catalog = CatalogReader(Path(attached.dataset["catalog"]))
        device = Device(fd, self._refused)
        session_parts = self._assemble(device, catalog, attached)
        self._loop.watch(self._channel.fileno(), self._on_channel)
        session_parts.start()
        self._loop.run()
        if self._taking_down is not None:
            self._taking_down.join(TAKE_DOWN_SECONDS)
        self._link.close()
        self._files.close()
        catalog.close()
        if self._failure is not None:
            _logger.error("%s", self._failure)
        return 0 if self._failure is None else 1

    def _assemble(self, device: Device, catalog: CatalogReader, attached: Attached) -> FuseSession:
        loop, trouble, definition = self._loop, self._trouble, self._definition
        deadline = self._settings.source_deadline_seconds
        waiting = RequestsInFlight(device, trouble)
        ttl = time_to_live(definition.metadata_ttl_seconds, self._settings.metadata_ttl_seconds)
        freshness = Freshness(catalog, ttl)
        attributes = Attributes(
            self._order.uid if definition.uid is None else definition.uid,
            self._order.gid if definition.gid is None else definition.gid,
        )
        self._catalog = catalog
        self._link = WorkerLink(
            loop,
            lambda: reach_worker(definition, self._settings),
            on_attached=self._worker_replaced,
            on_event=self._on_event,
            on_trouble=lambda error: trouble.report("worker", error),
        )
        self._directories = Directories(
            device, catalog, self._link, waiting, attributes, freshness, deadline=deadline
        )
        self._files = Files(
            loop,
            device,
            catalog,
            self._link,
            waiting,
            reader=RangeReader(loop, device, LARGEST_READ_BYTES),
            table=OpenFileTable(_raise_fd_limit()),
            block_bytes=int(attached.hello["block_bytes"]),
            deadline=deadline,
        )
        self._link.adopt(attached)
        return FuseSession(
            loop,
            device,
            catalog,
            attributes,
            freshness,
            waiting=waiting,
            directories=self._directories,
            files=self._files,
            statistics=TreeStatistics(loop, waiting, self._count),
            trouble=trouble,
            on_negotiated=self._negotiated,
            on_end=self._end,
        )

    def _count(self) -> Totals:
        reader = CatalogReader(self._catalog.path)
        try:
            return reader.totals()
        finally:
            reader.close()

    def _worker_replaced(self, attached: Attached) -> None:
        self._files.block_bytes = int(attached.hello["block_bytes"])
        try:
            self._catalog.reopen()
        except FluidpyError as error:
            self._trouble.report("catalog", error)
        self._directories.worker_replaced()

    def _on_event(self, event: Message) -> None:
        if event.get("event") == protocol.EVENT_CHANGED:
            self._directories.changed(event)

    def _refused(self, error: OSError) -> None:
        problem = MountError(
            f"the kernel refused an answer: {error.strerror}",
            cure="Report it with the log of the mount; mount again.",
        )
        self._trouble.report("device", problem)

    def _negotiated(self, negotiated: Negotiated) -> None:
        control.tell(self._channel, {"negotiated": negotiated.to_wire()})

    def _end(self, failure: MountError | None) -> None:
        self._failure = self._failure or failure
        self._loop.stop()

    def _on_channel(self, _events: int) -> None:
        """The holder says nothing after the fd: readable means that it is gone."""
        self._loop.unwatch(self._channel.fileno())
        self._failure = MountError(
            f"the holder of {self._order.directory} is gone, so the mount is taken down",
            cure="Mount the Dataset again.",
        )
        # The kernel may wait for answers of ours in this, so the loop goes on until it is done.
        self._taking_down = threading.Thread(target=self._take_down, name="take-down", daemon=True)
        self._taking_down.start()

    def _take_down(self) -> None:
        try:
            take_down(self._order.directory)
        except MountError as error:
            _logger.error("%s", error)
        remove_record(self._settings, self._order.directory, self._order.holder_pid)
        self._loop.call_from_thread(self._loop.stop)


def _raise_fd_limit() -> int:
    """Raises the soft limit of open files to the hard one; how many the file table may use."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, min(hard - _SPARE_FDS, MOST_OPEN_FILES))


def main() -> int:
    """Serves the mount that the control socket orders."""
    parser = argparse.ArgumentParser(prog="fluidpy.fuse.server")
    parser.add_argument("--control", type=int, required=True)
    channel = socket.socket(fileno=parser.parse_args().control)
    os.set_inheritable(channel.fileno(), False)
    control.harden_process()
    order = control.ServerOrder.from_wire(control.receive_first(channel))
    server = MountServer(order, load_settings(), channel)
    try:
        attached = server.attach()
    except FluidpyError as error:
        control.tell(channel, {"failed": error.to_wire()})
        return 1
    except OSError as error:
        failed = WorkerError(
            f"the worker broke the connection: {error}",
            cure="Look at worker.log in the runtime directory.",
        )
        control.tell(channel, {"failed": failed.to_wire()})
        return 1
    control.tell(channel, {"attached": True})
    fd = control.receive_device(channel)
    if fd is None:
        return 1  # the holder is gone, or the mount failed: nobody needs us
    return server.serve(fd, attached)


if __name__ == "__main__":
    sys.exit(main())
