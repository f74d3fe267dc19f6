"""Small cache files that are read again and again, held open where the kernel keeps their pages.

Memory runs short, the kernel forgets pages and inodes, and the next epoch asks for all of it once
more: a file that is held needs no look at directory and inode. A lease on each has the worker say
when it leaves the cache, and count its bytes until it is let go of. What is read once takes none.
Each time a held file is read from, it has to look as it did: one that was altered is not served.

They are held to be read past the kernel's pages (`O_DIRECT`), where their file system can: pages of
theirs would be filled, copied from once, and dropped.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from fluidpy.client.protocol import EntryTuple

MOST_KEPT: Final = 10240
"""Files held, each 800 bytes of the server and of the worker, and 2 KiB of the kernel."""


class FindsCacheFiles(Protocol):
    """What opens complete cache files and remembers where it found them."""

    def open(self, entry: EntryTuple) -> int | None:
        """An fd of the whole file, the caller's; None when there is none."""

    def found_before(self, row: int) -> bool:
        """Whether the file was opened before."""

    def forget(self, row: int) -> None:
        """The place of a file is no longer of use."""

    def generation(self) -> int:
        """Another number when what a row stands for may be another file."""


class TakesLeases(Protocol):
    """What tells the worker which cache files are in use."""

    def take(self, row: int, ino: int) -> None:
        """The file with that inode number is."""

    def give_back(self, row: int) -> None:
        """It is not any more."""


class Whole(NamedTuple):
    """A whole file: an fd that stays its keeper's, good until the keeper is asked again."""

    fd: int
    size: int


class _Stamp(NamedTuple):
    size: int
    ino: int
    ctime: int
    mtime: int


@dataclass(slots=True)
class _Kept:
    """An open file; `unbuffered`: to be read past the kernel's pages, where its file system can.
    `read_so` is whether it was, the last time.
    """

    fd: int
    unbuffered: bool
    generation: int
    stamp: _Stamp
    read_so: bool = False


class KeptFiles:
    """Opens complete cache files, and keeps those that were opened before."""

    def __init__(self, view: FindsCacheFiles, leases: TakesLeases, limit: int) -> None:
        """At most `limit` fds, and `MOST_KEPT` files, are held: those kept last."""
        self._view = view
        self._leases = leases
        self.limit = min(limit, MOST_KEPT)
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """How many files are held."""
        return len(self._kept)

    def open(self, entry: EntryTuple) -> int | None:
        """As the view's `open`."""
        row = entry[0]
        kept = self._unchanged(row)
        if kept is not None:
            kept.read_so = False
            return _opened_again(kept.fd, 0)
        generation = self._view.generation()
        again = self._view.found_before(row)
        fd = self._view.open(entry)
        if again and fd is not None and self.limit:
            self._keep(row, fd, generation)
        return fd

    def was_read_unbuffered(self, row: int) -> None:
        """What `unbuffered` gave was read."""
        kept = self._kept.get(row)
        if kept is not None:
            kept.read_so = True

    def needs_no_pages(self, row: int) -> bool:
        """Whether a file was read past the kernel's pages the last time: none need be fetched."""
        kept = self._kept.get(row)
        return kept is not None and kept.read_so

    def unbuffered(self, row: int) -> Whole | None:
        """A kept file to be read past the kernel's pages; None when there is none such."""
        kept = self._unchanged(row)
        if kept is None or not kept.unbuffered:
            return None
        return Whole(kept.fd, kept.stamp.size)

    def _unchanged(self, row: int) -> _Kept | None:
        kept = self._kept.get(row)
        if kept is None:
            return None
        if kept.generation == self._view.generation() and _stamp_of(kept.fd) == kept.stamp:
            return kept
        self._let_go(row)
        return None

    def _keep(self, row: int, fd: int, generation: int) -> None:
        own = _opened_again(fd, os.O_DIRECT)
        unbuffered = own is not None
        if own is None:
            own = _opened_again(fd, 0)
        if own is None:
            return
        if len(self._kept) >= self.limit:
            self._let_go(next(iter(self._kept)))
        stamp = _stamp_of(own)
        self._kept[row] = _Kept(own, unbuffered, generation, stamp)
        self._leases.take(row, stamp.ino)
        self._view.forget(row)

    def _let_go(self, row: int) -> None:
        kept = self._kept.pop(row, None)
        if kept is not None:
            os.close(kept.fd)
            self._leases.give_back(row)

    def leave(self, rows: Iterable[int]) -> None:
        """Lets go of files that have left the cache, or stand for old versions."""
        for row in rows:
            self._let_go(row)

    def close(self) -> None:
        """Lets go of all."""
        while self._kept:
            os.close(self._kept.popitem()[1].fd)


def _stamp_of(fd: int) -> _Stamp:
    facts = os.fstat(fd)
    return _Stamp(facts.st_size, facts.st_ino, facts.st_ctime_ns, facts.st_mtime_ns)


def _opened_again(fd: int, flags: int) -> int | None:
    """Another open of the same file, with flags of its own: a second fd would have the first's."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError:  # EINVAL: it is read through pages only. Or no fds are left: ask the worker
        return None
