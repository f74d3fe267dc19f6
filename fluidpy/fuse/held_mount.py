"""What a holder keeps of its mount from server to server: device, agreements, backing ids, record.

Nothing of it is lost with a server; all of it goes to the next one (`hand_over`).

A mount may outlive its place: what was unmounted lazily, or is bound elsewhere, or is seen in a
container lives on, and another may be mounted at the directory meanwhile, with a holder and record
of its own. So a holder knows its file system by its device, and leaves what is not its own alone.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

from fluidpy.client.protocol import Message
from fluidpy.errors import MountError
from fluidpy.fuse import control, kernel_mount
from fluidpy.fuse.backing_ids import BackingIds
from fluidpy.fuse.kernel import InitFlag
from fluidpy.fuse.mount_probe import DEAD, PROBE_SECONDS, probe
from fluidpy.fuse.mount_record import (
    MountRecord,
    read_record,
    record_path,
    remove_record,
    socket_path,
    write_record,
)
from fluidpy.fuse.mount_table import MountPoint, mounted_at, read_mounts
from fluidpy.fuse.unanswered import TABLE_BYTES
from fluidpy.settings import Settings

_logger = logging.getLogger("fluidpy.fuse.holder")


class HeldMount:
    """One mount as its holder has it."""

    def __init__(self, order: control.HolderOrder, settings: Settings) -> None:
        """Nothing is mounted yet."""
        self._order = order
        self._settings = settings
        self.known: control.KnownDataset | None = None
        """What the first server learnt of the Dataset."""
        self._fd = -1
        self._file_system = ""
        self._unanswered = -1
        self._negotiated: dict[str, Any] | None = None
        self._read_mode: dict[str, str] | None = None
        self._backings: BackingIds | None = None
        self._recorded = False
        definition = order.definition
        self.record = MountRecord(
            mount_point=order.directory,
            dataset=definition.name,
            namespace=definition.namespace,
            holder_pid=os.getpid(),
            server_pid=0,
            read_mode=order.read_mode,
            read_mode_reason="not chosen yet: at the first open of a file",
            started_at=time.time(),
            file=order.file,
            url=order.url,
            managed=settings.worker_runtime_dir is not None,
        )

    def server_order(self) -> control.ServerOrder:
        """What a server is told first; a later one of what is known of the Dataset, too."""
        order = self._order
        return control.ServerOrder(
            order.definition,
            order.directory,
            os.geteuid(),
            os.getegid(),
            os.getpid(),
            order.read_mode,
            self.known,
        )

    def mount(self) -> None:
        """Mounts; the kernel's INIT waits in the device. Raises MountError."""
        self._fd = kernel_mount.mount(self._order.directory, self._order.definition.key)
        point = mounted_at(self._order.directory)
        self._file_system = "" if point is None else point.device
        self._unanswered = os.memfd_create("fluidpy-unanswered", os.MFD_CLOEXEC)
        os.truncate(self._unanswered, TABLE_BYTES)
        self._backings = BackingIds(self._fd)

    @property
    def resends(self) -> bool:
        """Whether the kernel can send again what a server did not answer (Linux 6.9)."""
        flags = 0 if self._negotiated is None else int(self._negotiated["flags"])
        return bool(flags & InitFlag.HAS_RESEND)

    def hand_over(self, channel: socket.socket) -> bool:
        """Passes the device and all that was agreed to a server; false when it is gone."""
        assert self._backings is not None
        backings, retired = self._backings.state()
        message = control.HandOver(
            self._negotiated,
            self._read_mode,
            backings,
            retired,
            resend=self.resends,
            file_system=self._file_system,
        )
        return control.tell(channel, {"serve": message.to_wire()}, (self._fd, self._unanswered))

    def learn(self, attached: Message) -> bool:
        """Keeps what a server learnt of the Dataset; says whether it is news."""
        known = control.KnownDataset.from_wire(attached)
        before, self.known = self.known, known
        return known != before

    def on_message(self, message: Message, fds: Sequence[int]) -> Message | None:
        """What a server tells of the mount; the answer, if it wants one."""
        if "negotiated" in message:
            self._negotiated = message["negotiated"]
        elif "readMode" in message:
            self._read_mode = message["readMode"]
            self.record.read_mode = message["readMode"]["mode"]
            self.record.read_mode_reason = message["readMode"]["reason"]
            self.write_record_again()
        elif "backingOpen" in message:
            return self._open_backing(int(message["backingOpen"]["row"]), fds)
        elif "backingClose" in message and self._backings is not None:
            self._backings.close(message["backingClose"]["rows"])
        elif "forgotten" in message and self._backings is not None:
            self._backings.forgotten(message["forgotten"]["rows"])
        return None

    def _open_backing(self, row: int, fds: Sequence[int]) -> Message:
        if self._backings is None or len(fds) != 1:
            return {"backing": {"row": row, "errno": errno.EINVAL}}
        try:
            number = self._backings.open(row, fds[0])
        except OSError as error:
            return {"backing": {"row": row, "errno": error.errno or errno.EIO}}
        return {"backing": {"row": row, "id": number}}

    # -- the record ----------------------------------------------------------------------------

    def write_first_record(self) -> None:
        """Writes the record for the first time. Raises MountError."""
        try:
            write_record(self._settings, self.record)
        except OSError as error:
            raise MountError(
                f"the record of the mount cannot be written: {error}",
                cure="Set FLUIDPY_RUNTIME_DIR to a directory you may write.",
            ) from error
        self._recorded = True

    def write_record_again(self) -> None:
        """Writes what changed, if there is a record; a full disk costs the news, not the mount."""
        if self._recorded and self._has_record:
            try:
                write_record(self._settings, self.record)
            except OSError as error:
                _logger.error("%s: the record is out of date: %s", self._order.directory, error)

    @property
    def _has_record(self) -> bool:
        """Whether the record is this mount's: not removed, and not of one that came later."""
        record = read_record(record_path(self._settings, self._order.directory))
        return record is not None and record.holder_pid == os.getpid()

    def served_by(self, pid: int, *, restarted: bool) -> None:
        """Another server has taken over."""
        self.record.server_pid = pid
        self.record.restarts += restarted
        self.write_record_again()

    # -- its state and its end -----------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the kernel's connection lives: POLLERR says that it does not."""
        poll = select.poll()
        poll.register(self._fd, 0)
        return not poll.poll(0)

    @property
    def in_tree(self) -> bool:
        """Whether it is in the tree of mounts still, at its directory."""
        if not any(point.device == self._file_system for point in self._points()):
            return False
        # Without a connection its device may be another mount's by now: that one answers.
        return self.connected or self._is_dead()

    def _points(self) -> list[MountPoint]:
        return [point for point in read_mounts() if point.directory == self._order.directory]

    def _is_dead(self) -> bool:
        directory = self._order.directory
        error = probe(lambda: os.statvfs(directory), PROBE_SECONDS)
        return error is not None and error.errno in DEAD

    def unmount_softly(self) -> None:
        """Unmounts; one that is in use leaves the tree now, and ends with its last user."""
        points = self._points()
        if not points or points[-1].device != self._file_system:
            return
        try:
            try:
                kernel_mount.unmount(self._order.directory)
            except kernel_mount.BusyMountError as error:
                _logger.warning("%s; detaching it", error)
                kernel_mount.unmount(self._order.directory, lazy=True)
        except MountError as error:
            _logger.error("%s", error)

    def take_down(self) -> None:
        """Ends the connection, if there is one: what still waits in the kernel fails."""
        if self._fd < 0:
            return
        at_its_place = self.in_tree
        os.close(self._fd)
        self._fd = -1
        if not at_its_place:
            return
        try:
            kernel_mount.take_down(self._order.directory, self._file_system)
        except MountError as error:
            _logger.error("%s", error)

    def close_record(self, failure: str | None) -> None:
        """Nothing is mounted any more: the record goes, or says why."""
        if failure is None:
            remove_record(self._settings, self._order.directory, os.getpid())
        elif self._has_record:
            self.record.failure = failure
            self.write_record_again()
            socket_path(self._settings, self._order.directory).unlink(missing_ok=True)
