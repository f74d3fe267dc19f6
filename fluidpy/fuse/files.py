"""OPEN, READ and RELEASE: from the cache file where its bytes are known, else through the worker.

READ is answered whole or with an error: a short answer would make the kernel shrink the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fluidpy.client.protocol import Operation, close_all
from fluidpy.errors import CacheError, FluidpyError, SourceChangedError, WorkerTimeoutError
from fluidpy.fuse.attributes import row_of_node
from fluidpy.fuse.device import Device
from fluidpy.fuse.direct_files import DirectFiles, OpensCacheFiles
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.expected_reads import Expected
from fluidpy.fuse.kept_files import KeptFiles
from fluidpy.fuse.kernel import OPEN_OUT, READ_IN, OpenFlag
from fluidpy.fuse.known_opens import KnownOpens
from fluidpy.fuse.open_files import HeldFd, OpenFile, OpenFileTable
from fluidpy.fuse.range_reader import Piece, RangeReader
from fluidpy.fuse.requests_in_flight import RequestsInFlight
from fluidpy.fuse.worker_link import Answer, LinkLostError, WorkerLink
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.storage.under_storage import Kind

SWEEP_SECONDS: Final = 1.0
"""How often files that nobody has open are looked through."""

_OPENED: Final = OPEN_OUT.pack(0, OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH, 0)
"""Pages are kept: a node is one version. No handle: READ names the node. Nothing to flush."""


OnOpen: TypeAlias = Callable[[FluidpyError | None], None]

AnswerWhole: TypeAlias = Callable[[int, int, int], bool]
"""Answers a READ (unique, row, bytes from the beginning) if it can do so at once with all of a
file; see `UnbufferedReads.answer`."""


@dataclass(slots=True)
class _Read:
    """A READ that waits. Bytes up to `start` lie in `pieces`, whose fds came along (`passed`).

    `opens`: the file is being opened with this one's deadline, not another's.
    """

    unique: int
    start: int
    end: int
    limit: float
    repaired: bool = False
    opens: bool = False
    pieces: list[Piece] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)


class Files:
    """Serves the files of one mount."""

    def __init__(
        self,
        loop: EventLoop,
        device: Device,
        catalog: CatalogReader,
        link: WorkerLink,
        waiting: RequestsInFlight,
        *,
        reader: RangeReader,
        table: OpenFileTable,
        block_bytes: int,
        deadline: float,
        view: OpensCacheFiles | None = None,
        kept: KeptFiles | None = None,
        answer_whole: AnswerWhole = lambda _unique, _row, _size: False,
        on_used: Callable[[int], None] = lambda _row: None,
    ) -> None:
        """`block_bytes` is the unit in which the worker keeps; `deadline` in seconds, a request.

        `view` opens complete cache files without the worker, `kept` has those of them that
        `answer_whole` may read past the kernel's pages; `on_used` hears of their rows.
        """
        self._loop = loop
        self._device = device
        self._catalog = catalog
        self._link = link
        self._waiting = waiting
        self._reader = reader
        self._table = table
        self.block_bytes = block_bytes
        self._deadline = deadline
        self.direct = DirectFiles(view, on_used=on_used, close=self._close_unless_busy, kept=kept)
        self._expected_rows = self.direct.expected.rows
        self._answer_whole = answer_whole
        self.on_complete: Callable[[int], None] = lambda _row: None
        """Hears of rows whose files the cache has whole by now."""
        self._known = KnownOpens(catalog)
        self._openers: dict[OpenFile, list[OnOpen]] = {}
        loop.call_later(SWEEP_SECONDS, self._sweep)

    def open(self, unique: int, node: int) -> None:
        """OPEN: ESTALE for a version that is no longer live, so that the kernel looks up again.

        The worker is asked by the first READ: many an open finds its pages in the kernel.
        """
        row = row_of_node(node)
        if self._known.get(row) is None:
            entry = self._catalog.get(row)
            if entry is None or not entry.live:
                self._device.reply_error(unique, errno.ESTALE)
                return
            if entry.kind == Kind.DIRECTORY:
                self._device.reply_error(unique, errno.EISDIR)
                return
            self._known.note(row, _OPENED)
        self._table.acquire(row)
        self._device.reply(unique, _OPENED)

    def release(self, unique: int, node: int) -> None:
        """RELEASE: the file may be closed; it is kept a while for the next open."""
        self._table.release(row_of_node(node))
        self._device.reply_after_others(unique)
        self._close_surplus()

    def read(self, unique: int, node: int, body: memoryview) -> None:
        """READ."""
        _handle, start, size, _flags = READ_IN.unpack_from(body)
        row = row_of_node(node)
        tried = not (start or self._expected_rows)
        if tried and self._answer_whole(unique, row, size):
            return
        file = self._table.get(row, self._loop.clock())
        if file is None:
            expected = self.direct.take_expected(row)
            if expected is not None and self._read_at_once(unique, expected, start, size):
                return
            fetched = expected is not None and expected.fd is not None
            if not (start or fetched or tried) and self._answer_whole(unique, row, size):
                return
            file = self.direct.open(row, expected, self._catalog.get)
            if file is None:
                self._device.reply_error(unique, errno.ESTALE)
                return
            self._table.add(file, self._loop.clock())
            self._close_surplus()
        end = min(start + size, file.size)
        if start >= end:
            self._device.reply(unique)
        elif file.holds(start, end, self.block_bytes):
            file.reads += 1
            self._send(_Read(unique, start, end, self._loop.clock() + self._deadline), file)
        else:
            file.reads += 1
            self._waiting.begin(unique)
            self._ask(_Read(unique, start, end, self._loop.clock() + self._deadline), file)

    def _read_at_once(self, unique: int, expected: Expected, start: int, size: int) -> bool:
        """Answers a READ of all of a small file that is being fetched; whether that was done."""
        entry, fd, _sweep = expected
        if fd is None or start or entry[4] > size or not self.direct.kernel_keeps_pages:
            return False
        if not self._reader.answer_whole(unique, fd, entry[4]):
            return False
        self.direct.was_read_at_once(entry[0], fd, entry[4])
        return True

    def _open_at_worker(self, file: OpenFile) -> bool:
        return (
            file.handle is not None
            and file.generation == self._link.generation
            and self._link.connected
        )

    def _ensure(self, file: OpenFile, done: OnOpen, deadline: float) -> None:
        """Has the worker open the file, once for all who wait for it."""
        waiting = self._openers.setdefault(file, [])
        waiting.append(done)
        if file.opening:
            return
        file.opening = True
        self._link.call(
            Operation.OPEN,
            {"entry": file.row},
            deadline,
            lambda answer: self._on_open(file, answer),
            survives=True,
        )

    def _on_open(self, file: OpenFile, answer: Answer) -> None:
        file.opening = False
        if answer.error is None:
            self._take_opened(file, answer)
        for done in self._openers.pop(file, []):
            done(answer.error)
        if file.dropped:
            self._close(file)

    def _take_opened(self, file: OpenFile, answer: Answer) -> None:
        file.handle = int(answer.ok["handle"])
        file.generation = self._link.generation
        file.present.clear()
        file.complete = False
        close_all(answer.fds[1:])
        file.close_fd()  # the worker may keep the object in another file by now
        file.held = HeldFd(answer.fds[0]) if answer.fds else None
        file.complete = bool(answer.ok.get("complete")) and file.held is not None
        if file.complete:
            self.on_complete(file.row)

    def _ask(self, read: _Read, file: OpenFile) -> None:
        left = read.limit - self._loop.clock()
        if not self._waiting.waits(read.unique):
            self._finish(read, file)
            return
        if left <= 0:
            self._fail(read, file, _deadline_passed(self._deadline))
        elif not self._open_at_worker(file):
            read.opens = not file.opening
            self._ensure(file, lambda error: self._on_ensured(read, file, error), left)
        else:
            asked = (file.handle, file.generation)
            self._link.call(
                Operation.READ,
                {"handle": file.handle, "start": read.start, "end": read.end},
                left,
                lambda answer: self._on_read(read, file, answer, asked),
            )

    def _on_ensured(self, read: _Read, file: OpenFile, error: FluidpyError | None) -> None:
        if isinstance(error, WorkerTimeoutError) and not read.opens:
            self._ask(read, file)  # whoever had the file opened had less time than this read
        elif error is not None:
            self._fail(read, file, error)
        elif (
            self._waiting.waits(read.unique)
            and file.holds(read.start, read.end, self.block_bytes)
            and not read.repaired
        ):
            self._waiting.take(read.unique)
            self._send(read, file)
        else:
            self._ask(read, file)

    def _on_read(
        self, read: _Read, file: OpenFile, answer: Answer, asked: tuple[int | None, int]
    ) -> None:
        if isinstance(answer.error, LinkLostError):
            self._ask(read, file)
        elif answer.error is not None:
            self._fail(read, file, answer.error)
        elif answer.fds:
            self._take_passed(read, file, answer)
        elif asked != (file.handle, file.generation):
            self._ask(read, file)  # opened again meanwhile: this speaks of the fd before
        elif file.held is None:
            self._fail(read, file, _no_fd())
        else:
            until = max(read.end, int(answer.ok.get("until", 0)))
            file.learn(read.start, until, self.block_bytes)
            if answer.ok.get("complete") and not file.complete:
                file.complete = True
                self.on_complete(file.row)
            if self._waiting.take(read.unique):
                self._send(read, file)
            else:
                self._finish(read, file)

    def _fail(self, read: _Read, file: OpenFile, error: FluidpyError) -> None:
        self._waiting.fail(read.unique, self._path(file.row), error)
        self._finish(read, file)

    def _finish(self, read: _Read, file: OpenFile) -> None:
        """The READ is over: answered, failed or given up."""
        close_all(read.passed)
        read.passed.clear()
        file.reads -= 1
        if file.dropped:
            self._close(file)

    def _send(self, read: _Read, file: OpenFile) -> None:
        """Answers: what is left of the range from the file's own fd, after the pieces."""
        held = file.held if read.start < read.end else None
        if held is not None:
            held.use()
            read.pieces.append(Piece(held.fd, read.start, read.end - read.start))
        self._reader.send(
            read.unique,
            read.pieces,
            lambda error: self._sent(read, file, held, error),
        )

    def _sent(
        self, read: _Read, file: OpenFile, held: HeldFd | None, error: OSError | None
    ) -> None:
        if held is not None:
            held.done()
        if error is None:
            self._finish(read, file)
            if held is not None:
                self.direct.was_read(file, read.end, read.pieces[-1].length)
        else:
            self._repair(read, file, error)

    def _repair(self, read: _Read, file: OpenFile, error: OSError) -> None:
        """The cache file could not give what it has: once, the worker looks at it and helps."""
        self._waiting.begin(read.unique)
        if read.repaired:
            failure = CacheError(
                f"the cache file cannot be read: {error.strerror}",
                cure="Check the cache's disk; `fluidpy cache evict` removes what is damaged.",
            )
            self._fail(read, file, failure)
            return
        close_all(read.passed)
        first = read.end - sum(piece.length for piece in read.pieces)
        read = _Read(read.unique, first, read.end, read.limit, repaired=True)
        file.complete = False
        file.present.clear()
        if file.handle is not None:
            self._link.release(file.handle, file.generation)
            file.handle = None
        self._ask(read, file)

    def _take_passed(self, read: _Read, file: OpenFile, answer: Answer) -> None:
        """Takes an fd that came with the answer (a segment, or bytes that are not kept)."""
        left = read.end - read.start
        length = min(int(answer.ok.get("length", left)), left)
        if length <= 0:
            close_all(answer.fds)
            self._fail(read, file, _no_fd())
            return
        read.passed.extend(answer.fds)
        read.pieces.append(Piece(answer.fds[0], int(answer.ok.get("offset", 0)), length))
        read.start += length
        if not self._waiting.waits(read.unique):
            self._finish(read, file)
        elif read.start < read.end:  # the range goes on in the next segment
            self._ask(read, file)
        else:
            self._waiting.take(read.unique)
            self._send(read, file)

    def _close_unless_busy(self, file: OpenFile) -> None:
        if not (file.busy or file.dropped):
            self._table.drop(file)
            self._close(file)

    def _sweep(self) -> None:
        self.direct.sweep()
        self._close_surplus()
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _close_surplus(self) -> None:
        for file in self._table.surplus(self._loop.clock()):
            self._close(file)

    def _close(self, file: OpenFile) -> None:
        if file.busy:
            return
        if file.handle is not None:
            self._link.release(file.handle, file.generation)
            file.handle = None
        if file.unneeded and file.held is not None:
            file.held.drop_pages(file.size)
        file.close_fd()

    def _path(self, row: int) -> str:
        try:
            return os.fsdecode(self._catalog.path_of(row))
        except FluidpyError:
            return f"(row {row})"

    def close(self) -> None:
        """Closes all fds."""
        self.direct.close()
        for file in self._table:
            file.close_fd()


def _deadline_passed(seconds: float) -> WorkerTimeoutError:
    return WorkerTimeoutError(
        f"the bytes did not arrive within {seconds:g} s",
        cure="Look at worker.log for the source's trouble; FLUIDPY_SOURCE_DEADLINE_SECONDS is the "
        "limit.",
    )


def _no_fd() -> SourceChangedError:
    return SourceChangedError(
        "the worker speaks of a cache file that it did not pass on", cure="Open the file again."
    )
