"""An open file of a Dataset: bytes of one version, read from the fd that the worker passed.

While the worker has not all of it, reads ask the worker to bring the blocks they touch and then
take them from the passed fd; what is known to be there is not asked for again. Once the file is
complete no read goes through any server.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

from fluidpy.client import protocol
from fluidpy.client.connection import LostConnectionError
from fluidpy.client.protocol import RemoteEntry
from fluidpy.errors import CacheError, WorkerError

if TYPE_CHECKING:
    from fluidpy.client.attachment import Opened
    from fluidpy.client.session import DatasetSession

BUFFER_BYTES: Final = 32 * 1024
"""Buffer of an open file: small reads cost a call of ours each this many bytes, not each."""

ASK_BYTES: Final = 8 * 1024 * 1024
"""Most bytes asked of the worker in one `read`: enough to keep its read-ahead ahead of us."""


KEPT_SEGMENTS: Final = 16
"""Segments of a large object whose fds an open file keeps; the one that came first goes first."""


class _Window:
    """Bytes `[start, end)` of a file that lie in an fd of their own, `start` at `offset`."""

    __slots__ = ("end", "fd", "offset", "start")

    def __init__(self, start: int, end: int, fd: int, offset: int) -> None:
        self.start = start
        self.end = end
        self.fd = fd
        self.offset = offset


class ObjectReader:
    """Positioned reads of one version of one file; any thread may read."""

    def __init__(self, session: DatasetSession, opened: Opened) -> None:
        """Takes over what the session opened."""
        self._session = session
        self._opened = opened
        self._present: set[int] = set()
        self._window: _Window | None = None
        self._segments: list[_Window] = []
        """Whole segments of a complete large object: read without asking the worker."""
        self._lock = threading.Lock()
        self._closed = False
        self.entry: RemoteEntry = opened.entry
        self.size = opened.entry.size
        self.complete = opened.complete or self.size == 0

    def __enter__(self) -> ObjectReader:
        """The reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes `[start, end)`, cut at the end of the file.

        Raises SourceChangedError, SourceError, WorkerError, CacheError.
        """
        end = min(end, self.size)
        if start >= end:
            return b""
        opened = self._opened
        if self.complete and opened.fd >= 0:
            data = os.pread(opened.fd, end - start, start)
            if len(data) == end - start and self._opened is opened:
                return data
        buffer = bytearray(end - start)
        with memoryview(buffer) as view:
            done = 0
            while done < len(view):
                done += self.read_into(view[done:], start + done)
        return bytes(buffer)

    def read_into(self, view: memoryview, position: int) -> int:
        """Fills the view from that position; the number of bytes, at least 1 before the end."""
        wanted = min(len(view), self.size - position)
        if wanted <= 0:
            return 0
        view = view[:wanted]
        opened = self._opened
        if self.complete and opened.fd >= 0:
            done = os.preadv(opened.fd, [view], position)
            if done and self._opened is opened:  # else the fd may have been another file's
                return done
        with self._lock:
            return self._read_partial(view, position)

    def _read_partial(self, view: memoryview, position: int) -> int:
        limit = self._session.limit()
        for asks in range(4):
            if done := self._read_known(view, position):
                return done
            # Somebody cut the file: the worker mends it on opening. It may not know yet that we do.
            if asks == 2 or self._opened.handle < 0:
                self._session.insist("open", self._reopen, limit)
            self._session.insist(
                "read", lambda limit: self._ask(position, position + len(view), limit), limit
            )
        if done := self._read_known(view, position):
            return done
        raise CacheError(
            f"the cached bytes of {os.fsdecode(self.entry.name)} at {position} are cut off",
            cure="Try again; `fluidpy cache evict` drops the damaged file.",
        )

    def _read_known(self, view: memoryview, position: int) -> int:
        if self._segments and (done := self._read_segment(view, position)):
            return done
        window = self._window
        if window is not None and window.start <= position < window.end:
            length = min(len(view), window.end - position)
            offset = window.offset + position - window.start
            return os.preadv(window.fd, [view[:length]], offset)
        length = self._known_from(position, len(view))
        return os.preadv(self._opened.fd, [view[:length]], position) if length else 0

    def _read_segment(self, view: memoryview, position: int) -> int:
        for segment in reversed(self._segments):
            if segment.start <= position < segment.end:
                length = min(len(view), segment.end - position)
                if done := os.preadv(segment.fd, [view[:length]], position - segment.start):
                    return done
                self._segments.remove(segment)  # somebody cut it: the worker is asked again
                os.close(segment.fd)
                return 0
        return 0

    def _keep_segment(self, start: int, end: int, fd: int) -> None:
        self._segments.append(_Window(start, end, fd, 0))
        if len(self._segments) > KEPT_SEGMENTS:
            os.close(self._segments.pop(0).fd)

    def _known_from(self, position: int, length: int) -> int:
        if self._opened.fd < 0:
            return 0
        if self.complete:
            return length
        block_bytes = self._session.block_bytes
        block = position // block_bytes
        while block in self._present and block * block_bytes < position + length:
            block += 1
        return min(length, max(0, block * block_bytes - position))

    def _ask(self, start: int, end: int, limit: float) -> None:
        """Has the worker bring what lies at `start`, in whole blocks, as it fetches anyway."""
        block_bytes = self._session.block_bytes
        first = start // block_bytes
        end = min(end, first * block_bytes + ASK_BYTES)
        last = -(-end // block_bytes)
        start, end = first * block_bytes, min(last * block_bytes, self.size)
        try:
            ok, fds = self._session.read_object(self._opened, start, end, limit)
        except LostConnectionError:
            self._reopen(limit)
            raise
        self._take(start, end, ok, fds)
        if not fds:
            until = int(ok.get("until", end))
            self._present.update(range(first, max(last, -(-until // block_bytes))))

    def _take(self, start: int, end: int, ok: protocol.Message, fds: list[int]) -> None:
        if fds:
            protocol.close_all(fds[1:])
            self._drop_window()
            if segment := ok.get("segment"):
                self._keep_segment(int(segment[0]), int(segment[1]), fds[0])
                return
            length = min(end - start, int(ok.get("length", end - start)))
            self._window = _Window(start, start + length, fds[0], int(ok.get("offset", 0)))
        elif self._opened.fd < 0:
            raise WorkerError(
                "the worker passed no fd for bytes it says it has brought",
                cure="Open it again; report it with worker.log of the runtime directory.",
            )
        if ok.get("complete") and self._opened.fd >= 0:
            self.complete = True
            self._present.clear()

    def _reopen(self, limit: float) -> None:
        """Opens the same version in the present connection (a new worker's, perhaps)."""
        fresh = self._session.reopen_object(self._opened, limit)
        # Others read without the lock: what they see as complete must not be the fresh file yet.
        self.complete = False
        self._present.clear()
        stale, self._opened = self._opened, fresh
        self.complete = fresh.complete
        self._session.close_object(stale)

    def direct_fd(self, position: int) -> int:
        """An fd on the complete cached file with its own file offset, at `position`.

        The passed fd shares its offset with other processes, so the file is opened once more.
        Raises io.UnsupportedOperation while the file is not complete.
        """
        with self._lock:
            if not self.complete or self._opened.fd < 0:
                raise io.UnsupportedOperation("fileno: the file is not in the cache as a whole")
            own = os.open(f"/proc/self/fd/{self._opened.fd}", os.O_RDONLY | os.O_CLOEXEC)
            os.lseek(own, position, os.SEEK_SET)
            os.dup2(own, self._opened.fd, inheritable=False)
            os.close(own)
            return self._opened.fd

    def close(self) -> None:
        """Gives everything back; harmless when done twice."""
        if self._closed:
            return
        self._closed = True
        self._drop_window()
        while self._segments:
            os.close(self._segments.pop().fd)
        self._session.close_object(self._opened)

    def _drop_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            os.close(window.fd)


class _RawFile(io.RawIOBase):
    """The unbuffered side: a position over an `ObjectReader`."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._position = 0
        self._fileno = -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view, view.cast("B") as octets:
            done = self._reader.read_into(octets, self._position)
        self._position += done
        return done

    def readall(self) -> bytes:
        data = self._reader.read_range(self._position, self._reader.size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.size}
        if whence not in base:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        position = base[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def fileno(self) -> int:
        if self._fileno < 0:
            self._fileno = self._reader.direct_fd(self._position)
        return self._fileno

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._reader.close()


class DatasetFile(io.BufferedReader):
    """A file of a Dataset, opened for reading in binary; complete ones are read without a server.

    Its bytes are those of one version: should the source change, reads go on with that version or
    raise SourceChangedError (ESTALE). `fileno` (and so mmap) works once the file is cached as a
    whole, and raises io.UnsupportedOperation before.
    """

    mode = "rb"
    fs: Any = None
    """The file system that opened it, where one did."""

    def __init__(self, reader: ObjectReader, path: str) -> None:
        """`path` is the name to show."""
        super().__init__(_RawFile(reader), BUFFER_BYTES)
        self.reader = reader
        self.path = path
        self.details_from: Callable[[], dict[str, Any]] | None = None
        self.reopen_with: Callable[[], tuple[Any, ...]] | None = None

    @property
    def name(self) -> str:
        """The path in the Dataset."""
        return self.path

    @property
    def full_name(self) -> str:
        """The path as a URL, as fsspec's own files have it."""
        return f"fluid://{self.path}"

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.reader.size

    @cached_property
    def details(self) -> dict[str, Any]:
        """What the file system said of the file when it was opened."""
        if self.details_from is not None:
            return self.details_from()
        return {"name": self.path, "size": self.reader.size, "type": "file"}

    def info(self) -> dict[str, Any]:
        """What the file system said of the file when it was opened."""
        return self.details

    def __enter__(self) -> DatasetFile:
        """The file itself."""
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its path, version and position; opened again where it is loaded."""
        if self.reopen_with is None:
            raise TypeError(f"cannot pickle {self.path}: it was not opened by a file system")
        return self.reopen_with()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        """As `__reduce__`, which pickle would not ask: io's own class refuses here since 3.12."""
        return self.__reduce__()

    def __repr__(self) -> str:
        """The path and the size."""
        return f"<DatasetFile {self.path!r} of {self.size} bytes>"
