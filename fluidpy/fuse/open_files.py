"""Files as the server holds them: a handle of the worker, the cache file's fd, what is known of it.

A file is known by its catalog row, so that READ works for a file that this server never opened:
after a restart, and for one whose fd was closed to make room.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

IDLE_FILES: Final = 512
"""Closed files whose fd is kept for the next open."""

IDLE_BYTES: Final = 256 * 1024 * 1024
"""Bytes of such files in all: what is held cannot leave the cache's disk."""

IDLE_SECONDS: Final = 10.0
"""How long they are kept."""

ACTIVE_SECONDS: Final = 1.0
"""How long after its last read a file counts as open where the kernel does not say (no-open)."""


class HeldFd:
    """The fd of a cache file, closed when nobody wants it and the last read of it has ended."""

    __slots__ = ("_users", "_wanted", "fd")

    def __init__(self, fd: int) -> None:
        """Takes over the fd."""
        self.fd = fd
        self._users = 0
        self._wanted = True

    def use(self) -> None:
        """A read begins: the fd stays open until its `done`."""
        self._users += 1

    def done(self) -> None:
        """A read has ended."""
        self._users -= 1
        self._close_unless_needed()

    def drop(self) -> None:
        """Nobody begins to read it any more."""
        self._wanted = False
        self._close_unless_needed()

    def drop_pages(self, end: int) -> None:
        """Has the kernel forget the file's clean pages before `end`."""
        os.posix_fadvise(self.fd, 0, end, os.POSIX_FADV_DONTNEED)

    def _close_unless_needed(self) -> None:
        if self.fd >= 0 and not self._users and not self._wanted:
            os.close(self.fd)
            self.fd = -1


@dataclass(slots=True, eq=False)
class OpenFile:
    """One version of one file.

    `handle`, `generation` (of the worker's connection) and `held` belong together: what the worker
    says of a handle is true of the fd that came with it. `reads` counts the READs that are not
    answered yet.
    """

    row: int
    size: int
    handle: int | None = None
    generation: int = 0
    held: HeldFd | None = None
    complete: bool = False
    present: set[int] = field(default_factory=set)
    reads: int = 0
    opening: bool = False
    dropped: bool = False
    used_at: float = 0.0
    release_seen: bool = False
    """Whether the kernel said that it has the file open no more."""
    unneeded: int = 0
    """Bytes read since pages of the cache file were dropped, where they are."""

    @property
    def busy(self) -> bool:
        """Whether something is under way that the file must be held for."""
        return bool(self.reads or self.opening)

    def may_be_open(self, now: float) -> bool:
        """Whether somebody may have it open still though the kernel did not say so."""
        return not self.release_seen and now - self.used_at < ACTIVE_SECONDS

    def holds(self, start: int, end: int, block_bytes: int) -> bool:
        """Whether the cache file is known to have these bytes."""
        if self.held is None:
            return False
        if self.complete:
            return True
        present = self.present
        return all(b in present for b in range(start // block_bytes, -(-end // block_bytes)))

    def close_fd(self) -> None:
        """Lets go of the fd; reads under way end first."""
        held, self.held = self.held, None
        if held is not None:
            held.drop()

    def learn(self, start: int, end: int, block_bytes: int) -> None:
        """The worker said that these bytes are in the cache file: so are their whole blocks."""
        self.present.update(range(start // block_bytes, -(-end // block_bytes)))


class OpenFileTable:
    """All files that are held, least recently used first; says which need not be any longer."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most fds to hold; beyond it fds of open files are closed, too."""
        self._limit = limit
        self._files: OrderedDict[int, OpenFile] = OrderedDict()
        self._references: dict[int, int] = {}
        self._idle: OrderedDict[int, OpenFile] = OrderedDict()
        self._idle_bytes = 0

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(self._files.values())

    def get(self, row: int, now: float) -> OpenFile | None:
        """The file of that row, if held; it becomes the most recently used."""
        file = self._files.get(row)
        if file is not None:
            self._files.move_to_end(row)
            file.used_at = now
        return file

    def add(self, file: OpenFile, now: float) -> None:
        """Holds another file (without an fd yet)."""
        file.used_at = now
        self._files[file.row] = file
        if file.row not in self._references:
            self._set_idle(file)

    def acquire(self, row: int) -> None:
        """The kernel has a row's file open once more, whether it is held here or not."""
        self._references[row] = self._references.get(row, 0) + 1
        file = self._idle.pop(row, None)
        if file is not None:
            self._idle_bytes -= file.size
            file.release_seen = False

    def release(self, row: int) -> None:
        """The kernel has it open once less (an open that an earlier server answered is unknown)."""
        count = self._references.pop(row, 0)
        if count > 1:
            self._references[row] = count - 1
        elif (file := self._files.get(row)) is not None:
            file.release_seen = True
            self._set_idle(file)

    def _set_idle(self, file: OpenFile) -> None:
        if file.row not in self._idle:
            self._idle[file.row] = file
            self._idle_bytes += file.size

    def surplus(self, now: float) -> list[OpenFile]:
        """Takes out the files that need not, or can no longer, be held; the caller closes them."""
        taken = []
        while self._idle:
            file = next(iter(self._idle.values()))
            if len(self._idle) <= IDLE_FILES and now - file.used_at < IDLE_SECONDS:
                break
            if file.busy:
                self._idle.move_to_end(file.row)
                if now - file.used_at < IDLE_SECONDS:
                    break
                file.used_at = now
                continue
            taken.append(self._take(file))
        if self._idle_bytes > IDLE_BYTES:
            taken.extend(self._too_many_bytes(now))
        excess = len(self._files) - self._limit
        if excess > 0:
            unused = [f for f in self._files.values() if not f.busy]
            taken.extend(self._take(file) for file in unused[:excess])
        return taken

    def _too_many_bytes(self, now: float) -> list[OpenFile]:
        taken = []
        for file in list(self._idle.values()):
            if not (file.busy or file.may_be_open(now)):
                taken.append(self._take(file))
                if self._idle_bytes <= IDLE_BYTES:
                    break
        return taken

    def drop(self, file: OpenFile) -> None:
        """Takes out one file, wanted or not."""
        if self._files.get(file.row) is file:
            self._take(file)

    def _take(self, file: OpenFile) -> OpenFile:
        del self._files[file.row]
        if self._idle.pop(file.row, None) is not None:
            self._idle_bytes -= file.size
        file.dropped = True
        return file
