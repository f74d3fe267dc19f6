"""The kernel's requests, one after the other: who answers which, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from fluidpy.errors import FluidpyError, MountError, errno_of
from fluidpy.fuse.attributes import FILE_VALID_SECONDS, Attributes, row_of_node
from fluidpy.fuse.busy_wait import LOOK_SECONDS, BusyWait
from fluidpy.fuse.device import GONE, Device
from fluidpy.fuse.directories import Directories, Freshness
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.files import Files
from fluidpy.fuse.kernel import IN_HEADER, INTERRUPT_IN, InitFlag, Opcode
from fluidpy.fuse.negotiation import MAX_WRITE_BYTES, Negotiated, negotiate, parse_offer
from fluidpy.fuse.opens import Opens
from fluidpy.fuse.requests_in_flight import COMPANY, RequestsInFlight, TroubleLog
from fluidpy.fuse.statistics_of_tree import TreeStatistics
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.storage.under_storage import Kind

Handler: TypeAlias = Callable[[int, int, memoryview], None]

REQUESTS_A_TURN: Final = 64
"""Requests of the kernel answered before worker and timers have their turn."""

SIGNALS_SECONDS: Final = 0.25
"""How often callers that had a signal and went on waiting are looked at for another."""

BUFFER_BYTES: Final = MAX_WRITE_BYTES + 4096
"""The kernel wants room for its largest request and a header."""

_REFUSED: Final[dict[int, tuple[Opcode, ...]]] = {
    errno.EROFS: (
        Opcode.SETATTR,
        Opcode.SYMLINK,
        Opcode.MKNOD,
        Opcode.MKDIR,
        Opcode.UNLINK,
        Opcode.RMDIR,
        Opcode.RENAME,
        Opcode.RENAME2,
        Opcode.LINK,
        Opcode.WRITE,
        Opcode.CREATE,
        Opcode.TMPFILE,
        Opcode.SETXATTR,
        Opcode.REMOVEXATTR,
        Opcode.FALLOCATE,
        Opcode.COPY_FILE_RANGE,
    ),
    errno.ENOTTY: (Opcode.IOCTL,),
}
"""What is answered with an errno of its own; anything else unknown gets ENOSYS, after which the
kernel asks no more (GETXATTR, LISTXATTR, ACCESS, LSEEK, FLUSH, POLL, STATX, …)."""

_HEADER_BYTES: Final = IN_HEADER.size

_SILENT: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY})
"""Requests without an answer. FORGET needs no work: a node id is computed, not remembered."""

_UNAWAITED: Final = _SILENT | {Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.INTERRUPT}
"""Requests that no thread waits for. The kernel gives them the thread 0, which stands for all those
too that are not to be seen from where the mount was made, as of other containers."""

_NO_THREAD: Final = -1


class FuseSession:
    """Serves one connection to the kernel until it ends."""

    def __init__(
        self,
        loop: EventLoop,
        device: Device,
        catalog: CatalogReader,
        attributes: Attributes,
        freshness: Freshness,
        *,
        waiting: RequestsInFlight,
        directories: Directories,
        files: Files,
        opens: Opens,
        statistics: TreeStatistics,
        trouble: TroubleLog,
        on_negotiated: Callable[[Negotiated], None],
        on_end: Callable[[MountError | None], None],
        stack_depth: int = 1,
        withheld: InitFlag | None = None,
        on_request: Callable[[memoryview], None] | None = None,
        at_work: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_negotiated` hears of INIT; `on_end` of the unmount (None), or why serving ended.

        `stack_depth` is the kernel's to know (see `negotiate`); flags that are `withheld` are
        treated as if it did not offer them; `on_request` is called with each request as it is read;
        `at_work` says whether threads work on an answer.
        """
        self._loop = loop
        self._device = device
        self._catalog = catalog
        self._attributes = attributes
        self._freshness = freshness
        self._waiting = waiting
        self._directories = directories
        self._files = files
        self._opens = opens
        self._statistics = statistics
        self._trouble = trouble
        self._on_negotiated = on_negotiated
        self._on_end = on_end
        self._stack_depth = stack_depth
        self._withheld = withheld or InitFlag(0)
        self._on_request = on_request
        self._handle = self.handle if on_request is None else self._handle_noted
        # Written to at once: the kernel would lose a request if it had to fault in a page of the
        # buffer of a process that is killed at that moment.
        self._buffers = (bytearray(b"\1") * BUFFER_BYTES,)
        self._view = memoryview(self._buffers[0])
        self._only_thread = _NO_THREAD
        self._handlers = self._handler_table()
        self._busy_wait = BusyWait(loop.clock)
        self._at_work = at_work

    def _handler_table(self) -> dict[int, Handler]:
        directories, files, device = self._directories, self._files, self._device
        opens = self._opens
        table: dict[int, Handler] = {
            Opcode.LOOKUP: lambda u, n, body: directories.lookup(u, n, bytes(body[:-1])),
            Opcode.GETATTR: lambda u, n, _: self._get_attributes(u, n),
            Opcode.READLINK: lambda u, n, _: self._read_link(u, n),
            Opcode.OPEN: lambda u, n, _: opens.open(u, n),
            Opcode.READ: files.read,
            Opcode.RELEASE: lambda u, n, _: opens.release(u, n),
            Opcode.OPENDIR: lambda u, n, _: directories.open(u, n),
            Opcode.READDIR: lambda u, n, b: directories.read(u, n, b, plus=False),
            Opcode.READDIRPLUS: lambda u, n, b: directories.read(u, n, b, plus=True),
            Opcode.RELEASEDIR: lambda u, _n, _b: device.reply(u),
            Opcode.STATFS: lambda u, _n, _b: self._statistics.reply(u),
            Opcode.INTERRUPT: lambda _u, _n, b: self._waiting.interrupt(
                *INTERRUPT_IN.unpack_from(b)
            ),
            Opcode.INIT: lambda u, _n, b: self._initialise(u, b),
            Opcode.DESTROY: lambda u, _n, _b: device.reply(u),
        }
        for code, opcodes in _REFUSED.items():
            for opcode in opcodes:
                table[opcode] = lambda u, _n, _b, code=code: device.reply_error(u, code)  # type: ignore[misc]  # the default binds the loop's value
        for opcode in _SILENT:
            table[opcode] = lambda _u, _n, _b: None
        return table

    def start(self) -> None:
        """Begins to serve."""
        self._loop.watch(self._device.fd, self._on_readable)
        self._loop.call_later(SIGNALS_SECONDS, self._check_interrupted)

    def stop_reading(self) -> None:
        """Reads no further request; what was read is answered still."""
        self._loop.unwatch(self._device.fd)

    def _check_interrupted(self) -> None:
        self._waiting.check_interrupted()
        self._loop.call_later(SIGNALS_SECONDS, self._check_interrupted)

    def _on_readable(self, _events: int) -> None:
        fd, buffers, view = self._device.fd, self._buffers, self._view
        has_request = self._device.has_request
        self._busy_wait.asked()
        for _ in range(REQUESTS_A_TURN):
            try:
                length = os.readv(fd, buffers)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue  # the request was given up while we read it
                self._end(error)
                return
            self._handle(view[:length])
            if not has_request():
                break
        self._device.reply_to_rest()
        # Threads that work on an answer would have to wait for the interpreter.
        if self._busy_wait.answered() and not self._at_work():
            self._loop.look_for(LOOK_SECONDS)

    def _handle_noted(self, request: memoryview) -> None:
        assert self._on_request is not None
        self._on_request(request)
        self.handle(request)

    def _end(self, error: OSError) -> None:
        self._loop.unwatch(self._device.fd)
        if error.errno == errno.ENODEV:
            self._on_end(None)
            return
        what = "the kernel ended the connection" if error.errno in GONE else "the device failed"
        self._on_end(MountError(f"{what}: {error.strerror}", cure="Mount the Dataset again."))

    def handle(self, request: memoryview) -> None:
        """Answers one request, now or later."""
        _length, opcode, unique, node, _uid, _gid, thread, _e, _p = IN_HEADER.unpack_from(request)
        waiting = self._waiting
        waiting.thread = thread
        if thread == self._only_thread:
            if waiting.company:
                waiting.company -= 1
        elif thread or opcode not in _UNAWAITED:
            self._only_thread = thread or _NO_THREAD
            waiting.company = COMPANY
        handler = self._handlers.get(opcode)
        if handler is None:
            self._device.reply_error(unique, errno.ENOSYS)
            return
        try:
            handler(unique, node, request[_HEADER_BYTES:])
        except FluidpyError as error:
            self._trouble.report(f"{Opcode(opcode).name} of node {node}", error)
            self._waiting.take(unique)
            self._device.reply_error(unique, errno_of(error))

    def _initialise(self, unique: int, body: memoryview) -> None:
        try:
            offer = parse_offer(body)
            offer = replace(offer, flags=offer.flags & ~self._withheld)
            negotiated, reply = negotiate(offer, self._stack_depth)
        except MountError as error:
            self._device.reply_error(unique, errno.EPROTO)
            self._on_end(error)
            return
        self._device.reply(unique, reply)
        self._on_negotiated(negotiated)

    def _get_attributes(self, unique: int, node: int) -> None:
        row = row_of_node(node)
        entry = self._catalog.get(row)
        if entry is None:
            self._device.reply_error(unique, errno.ESTALE)
            return
        directory = entry.kind == Kind.DIRECTORY
        seconds = self._freshness.left(row) if directory else FILE_VALID_SECONDS
        self._device.reply(unique, self._attributes.pack_attr(entry, seconds))

    def _read_link(self, unique: int, node: int) -> None:
        self._device.reply(unique, self._catalog.target_of(row_of_node(node)))
