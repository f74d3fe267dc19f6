"""The FUSE server of one mount; forked by a template, or `python -m fluidpy.fuse.server`.

The holder sends one message with the Dataset (it holds secrets, so it travels neither in arguments
nor in the environment), and later the device fd: to the first server of a mount once that has
attached the Dataset at the worker, to the others when it is their turn. Those wait as *spares* with
the catalog open and nothing else, serve what it knows at once, and reach the worker meanwhile. The
server ends when the mount does, and unmounts when the holder dies.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.protocol import Message
from fluidpy.errors import FluidpyError, MountError
from fluidpy.fuse import control, process_name
from fluidpy.fuse.attributes import Attributes
from fluidpy.fuse.backed_files import MOST_HELD
from fluidpy.fuse.cache_places import cache_directories, stack_depth
from fluidpy.fuse.cache_view import how_found
from fluidpy.fuse.device import Device
from fluidpy.fuse.direct_files import DROP_FILES
from fluidpy.fuse.directories import Directories, Freshness, time_to_live
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.expected_reads import MOST_EXPECTED
from fluidpy.fuse.kept_files import MOST_KEPT
from fluidpy.fuse.kernel import InitFlag
from fluidpy.fuse.kernel_mount import take_down
from fluidpy.fuse.mount_record import remove_record
from fluidpy.fuse.negotiation import LARGEST_READ_BYTES, Negotiated
from fluidpy.fuse.node_ids import NodeIds
from fluidpy.fuse.open_files import OpenFileTable
from fluidpy.fuse.passthrough_files import MOST_OFFERED
from fluidpy.fuse.range_reader import RangeReader
from fluidpy.fuse.reach_worker import reach_and_list, reach_worker
from fluidpy.fuse.reading import Reading
from fluidpy.fuse.requests_in_flight import RequestsInFlight, TroubleLog
from fluidpy.fuse.session import FuseSession
from fluidpy.fuse.statistics_of_tree import TreeStatistics
from fluidpy.fuse.unanswered import NotingDevice, UnansweredTable, kernel_resends
from fluidpy.fuse.worker_link import Attached, WorkerLink
from fluidpy.namespace.catalog import CatalogReader, Totals
from fluidpy.settings import Settings, load_settings

_logger = logging.getLogger("fluidpy.fuse.server")

MOST_OPEN_FILES: Final = 65536
"""Upper bound of cache fds in one server, when the rlimit allows so many."""

TAKE_DOWN_SECONDS: Final = 30.0
"""How long a server whose holder is gone may take to unmount."""

DRAIN_STEP_SECONDS: Final = 0.005
"""How often a server that another is to follow looks whether all is answered."""

_SPARE_FDS: Final = 64 + MOST_EXPECTED + DROP_FILES
"""Fds of the rlimit that are left for sockets, catalog and passed segments, and for small files
that are about to be read or just were."""


class MountServer:
    """One mount's parts, put together, and its life."""

    def __init__(
        self, order: control.ServerOrder, settings: Settings, channel: socket.socket
    ) -> None:
        """`channel` is the socket shared with the holder."""
        self._order = order
        self._file_system = ""
        self._definition = order.definition
        self._settings = settings
        self._channel = channel
        self._loop = EventLoop()
        self._failure: MountError | None = None
        self._taking_down: threading.Thread | None = None
        self._attached: Attached | None = None
        label = f"{order.definition.key} at {order.directory}"
        self._trouble = TroubleLog(label)

    def prepare(self) -> control.KnownDataset:
        """Opens the catalog: the known one, or, without one, that of the worker. Blocks.

        Raises what worker and source say of the Dataset, CacheError for a catalog lost meanwhile.
        """
        known = self._order.known
        if known is not None:
            if known.place is not None:
                self._settings = replace(self._settings, worker_runtime_dir=known.place)
            if self._order.reach:
                self._attached = self._reach(known.catalog)
            self._catalog = CatalogReader(known.catalog)
            return known
        self._attached = reach_and_list(self._definition, self._settings)
        known = _known(self._attached)
        self._catalog = CatalogReader(known.catalog)
        return known

    def _reach(self, catalog: Path) -> Attached:
        """Attaches the Dataset by the rows of that catalog, which are the kernel's. Blocks."""
        return reach_worker(self._definition, self._settings, catalog=catalog)

    def look_again(self) -> None:
        """Follows a catalog that was replaced while this server waited. Raises CacheError."""
        self._catalog.reopen()

    def serve(
        self, hand_over: control.HandOver, fd: int, unanswered: int, known: control.KnownDataset
    ) -> int:
        """Serves the device until the mount ends; the exit status.

        `unanswered` is the fd of the table for kernels that do not send requests again.
        """
        process_name.set_module_name(process_name.SERVER)
        self._known = known
        self._file_system = hand_over.file_system
        resends = hand_over.resend or (hand_over.negotiated is None and kernel_resends(os.environ))
        noting = (
            None
            if resends
            else NotingDevice(fd, self._refused, UnansweredTable(unanswered), (self._loop.door,))
        )
        os.close(unanswered)
        device = noting or Device(fd, self._refused, (self._loop.door,))
        self._device = device
        self._session = self._assemble(device, known.block_bytes, noting)
        self._reading.take_over(hand_over, known.cache)
        self._loop.watch(self._channel.fileno(), self._on_channel)
        if hand_over.resend:
            device.ask_again()
        elif noting is not None and (failed := noting.fail_left()):
            _logger.warning(
                "%s: %d requests that the server before had not answered ended with EIO",
                self._order.directory,
                failed,
            )
        self._session.start()
        if self._attached is None:
            self._link.reach()
        else:
            self._link.adopt(self._attached, again=self._order.known is not None)
        control.tell(self._channel, {"serving": {"answers": True}})
        self._loop.run()
        if self._taking_down is not None:
            self._taking_down.join(TAKE_DOWN_SECONDS)
        self._link.close()
        self._reading.close()
        self._catalog.close()
        if self._failure is None:
            return 0
        if not control.tell(self._channel, {"failed": self._failure.to_wire()}):
            _logger.error("%s", self._failure)  # else the holder does, or whoever mounts
        return 1

    def _assemble(
        self, device: Device, block_bytes: int, noting: NotingDevice | None
    ) -> FuseSession:
        loop, trouble, definition = self._loop, self._trouble, self._definition
        catalog = self._catalog
        deadline = self._settings.source_deadline_seconds
        waiting = self._waiting = RequestsInFlight(device, trouble)
        ttl = time_to_live(definition.metadata_ttl_seconds, self._settings.metadata_ttl_seconds)
        freshness = Freshness(catalog, ttl)
        attributes = Attributes(
            self._order.uid if definition.uid is None else definition.uid,
            self._order.gid if definition.gid is None else definition.gid,
        )
        self._link = WorkerLink(
            loop,
            lambda: self._reach(catalog.path),
            on_attached=self._worker_replaced,
            on_event=self._on_event,
            on_trouble=lambda error: trouble.report("worker", error),
            on_lost_events=device.forget_names,
        )
        node_ids = NodeIds()
        self._directories = Directories(
            device,
            catalog,
            self._link,
            waiting,
            attributes,
            freshness,
            deadline=deadline,
            node_ids=node_ids,
        )
        self._reader = RangeReader(loop, device, LARGEST_READ_BYTES)
        places = cache_directories(definition, self._settings)
        self._reading = self._assemble_reading(device, block_bytes, node_ids, places)
        self._directories.on_file = self._reading.looked_up
        return FuseSession(
            loop,
            device,
            catalog,
            attributes,
            freshness,
            waiting=waiting,
            directories=self._directories,
            files=self._reading.files,
            opens=self._reading.opens,
            statistics=TreeStatistics(loop, waiting, self._count),
            trouble=trouble,
            on_negotiated=self._negotiated,
            on_end=self._end,
            stack_depth=stack_depth(places),
            withheld=None if noting is None else InitFlag.HAS_RESEND,
            on_request=None if noting is None else noting.received,
            at_work=lambda: self._reader.busy,
        )

    def _assemble_reading(
        self, device: Device, block_bytes: int, node_ids: NodeIds, places: list[Path]
    ) -> Reading:
        most_open, most_held = raise_fd_limit()
        return Reading(
            self._loop,
            device,
            self._catalog,
            self._link,
            self._waiting,
            reader=self._reader,
            table=OpenFileTable(most_open),
            block_bytes=block_bytes,
            deadline=self._settings.source_deadline_seconds,
            node_ids=node_ids,
            asked=self._order.read_mode,
            places=places,
            tell=lambda message, fds: control.tell(self._channel, message, fds),
            on_trouble=lambda error: self._trouble.report("reading", error),
            most_held=most_held,
        )

    def _count(self) -> Totals:
        reader = CatalogReader(self._catalog.path)
        try:
            return reader.totals()
        finally:
            reader.close()

    def _worker_replaced(self, attached: Attached) -> None:
        self._reading.files.block_bytes = int(attached.hello["block_bytes"])
        if attached.place is not None:
            self._settings = replace(self._settings, worker_runtime_dir=attached.place)
        try:
            self._catalog.follow(Path(attached.dataset["catalog"]))
        except FluidpyError as error:
            self._trouble.report("catalog", error)
        self._directories.worker_replaced()
        self._reading.worker_replaced(how_found(attached.dataset))
        known = _known(attached)
        if known.worker != self._known.worker:  # what the last one did not say, no one will
            self._device.forget_names()
        if known != self._known:
            self._known = known
            control.tell(self._channel, {"attached": known.to_wire()})

    def _on_event(self, event: Message) -> None:
        if event.get("event") == protocol.EVENT_CHANGED:
            self._directories.changed(event)
        self._reading.on_event(event)

    def _refused(self, error: OSError) -> None:
        problem = MountError(
            f"the kernel refused an answer: {error.strerror}",
            cure="Report it with the log of the mount; mount again.",
        )
        self._trouble.report("device", problem)

    def _negotiated(self, negotiated: Negotiated) -> None:
        control.tell(self._channel, {"negotiated": negotiated.to_wire()})
        self._reading.negotiated(negotiated)

    def _end(self, failure: MountError | None) -> None:
        self._failure = self._failure or failure
        self._loop.stop()

    def _on_channel(self, _events: int) -> None:
        try:
            received = protocol.receive(self._channel)
        except ConnectionResetError:
            received = None
        if received is None:
            self._holder_gone()
        else:
            protocol.close_all(received.fds)
            if "drain" in received.message:
                self._drain(float(received.message["drain"]["seconds"]))
            elif "ping" in received.message:
                control.tell(self._channel, {"alive": {}})
            elif "backing" in received.message:
                self._reading.on_backing(received.message["backing"])

    def _drain(self, seconds: float) -> None:
        """Another server takes over: reads nothing more, answers what can be answered in time."""
        self._session.stop_reading()
        limit = self._loop.clock() + seconds

        def look() -> None:
            if (self._waiting or self._reader.busy) and self._loop.clock() < limit:
                self._loop.call_later(DRAIN_STEP_SECONDS, look)
            else:
                control.tell(self._channel, {"drained": {}})
                self._loop.stop()

        look()

    def _holder_gone(self) -> None:
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
            take_down(self._order.directory, self._file_system)
        except MountError as error:
            _logger.error("%s", error)
        remove_record(self._settings, self._order.directory, self._order.holder_pid)
        self._loop.call_from_thread(self._loop.stop)


def _known(attached: Attached) -> control.KnownDataset:
    return control.KnownDataset(
        Path(attached.dataset["catalog"]),
        int(attached.hello["block_bytes"]),
        how_found(attached.dataset),
        int(attached.hello.get("pid", 0)),
        attached.place,
    )


def raise_fd_limit() -> tuple[int, int]:
    """Raises the soft limit of open files to the hard one; how many the file table may use, and how
    many may be held of files that are read again, or passed through and about to be opened: two
    thirds of them at most.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    usable = hard - _SPARE_FDS
    most_held = max(0, min(usable * 2 // 3, max(MOST_HELD + MOST_OFFERED, MOST_KEPT)))
    return max(16, min(usable - most_held, MOST_OPEN_FILES)), most_held


def run(channel: socket.socket) -> int:
    """Serves the mount that the control socket orders; the exit status."""
    try:
        order = control.ServerOrder.from_wire(control.receive_first(channel))
    except MountError:
        return 1  # the holder ended while this server was forked
    control.tell(channel, {"started": {"pid": os.getpid()}})
    server = MountServer(order, load_settings(), channel)
    try:
        known = server.prepare()
        control.tell(channel, {"attached": known.to_wire()})
        taken_over = control.receive_hand_over(channel)
    except FluidpyError as error:
        control.tell(channel, {"failed": error.to_wire()})
        return 1
    if taken_over is None:
        return 1  # the holder is gone, or the mount failed: nobody needs us
    hand_over, (device, unanswered) = taken_over
    try:
        server.look_again()
    except FluidpyError as error:
        control.tell(channel, {"failed": error.to_wire()})
        return 1
    return server.serve(hand_over, device, unanswered, known)


def main() -> int:
    """Serves as a process of its own, without a template."""
    channel = control.open_control("fluidpy.fuse.server")
    return run(channel)


if __name__ == "__main__":
    sys.exit(main())
