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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from fluidpy.client.protocol import EntryTuple

MOST_KEPT: Final = 10240
"""Files held, each 800 bytes of the server and of the worker, and 2 KiB of the kernel."""


PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
"""What a read past the kernel's pages is a multiple of."""


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


Stamp: TypeAlias = tuple[int, int, int, int]
"""How a file looked: size, inode number, times of change and modification in nanoseconds."""


@dataclass(slots=True)
class KeptFile:
    """An open file of `size` bytes; `unbuffered` where it can be read past the kernel's pages, then
    in `whole_pages` bytes at once.
    """

    fd: int
    size: int
    generation: int
    stamp: Stamp
    unbuffered: bool

    @property
    def whole_pages(self) -> int:
        """Its size rounded up: no disk has larger sectors than a page, but for few."""
        return -(-self.size // PAGE_BYTES) * PAGE_BYTES


class KeptFiles:
    """Opens complete cache files, and keeps those that were opened before."""

    def __init__(self, view: FindsCacheFiles, leases: TakesLeases, limit: int) -> None:
        """At most `limit` fds, and `MOST_KEPT` files, are held: those kept last."""
        self._view = view
        self._leases = leases
        self.limit = min(limit, MOST_KEPT)
        self.files: OrderedDict[int, KeptFile] = OrderedDict()
        """By row; to be looked at."""
        self.may_wait: Callable[[], bool] = lambda: False
        """Whether files are read past the kernel's pages now: while one may wait for the disk."""

    def __len__(self) -> int:
        """How many files are held."""
        return len(self.files)

    def open(self, entry: EntryTuple) -> int | None:
        """As the view's `open`."""
        row = entry[0]
        kept = self.files.get(row)
        if kept is not None and self.is_unchanged(row, kept):
            return _opened_again(kept.fd, 0)
        generation = self._view.generation()
        again = self._view.found_before(row)
        fd = self._view.open(entry)
        if again and fd is not None and self.limit:
            self._keep(row, entry[4], fd, generation)
        return fd

    def needs_no_pages(self, row: int) -> bool:
        """Whether a file would be read past the kernel's pages now."""
        kept = self.files.get(row)
        return kept is not None and kept.unbuffered and self.may_wait()

    def is_unchanged(self, row: int, kept: KeptFile) -> bool:
        """Whether a kept file may be read; one that may not is let go of."""
        facts = os.fstat(kept.fd)
        stamp = (facts.st_size, facts.st_ino, facts.st_ctime_ns, facts.st_mtime_ns)
        if stamp == kept.stamp and kept.generation == self._view.generation():
            return True
        self._let_go(row)
        return False

    def _keep(self, row: int, size: int, fd: int, generation: int) -> None:
        own = _opened_again(fd, os.O_DIRECT)
        unbuffered = own is not None
        if own is None:
            own = _opened_again(fd, 0)
        if own is None:
            return
        facts = os.fstat(own)
        if facts.st_size != size:  # it was cut a moment ago: whoever reads it will see
            os.close(own)
            return
        if len(self.files) >= self.limit:
            self._let_go(next(iter(self.files)))
        stamp = (size, facts.st_ino, facts.st_ctime_ns, facts.st_mtime_ns)
        self.files[row] = KeptFile(own, size, generation, stamp, unbuffered)
        self._leases.take(row, facts.st_ino)
        self._view.forget(row)

    def _let_go(self, row: int) -> None:
        kept = self.files.pop(row, None)
        if kept is not None:
            os.close(kept.fd)
            self._leases.give_back(row)

    def leave(self, rows: Iterable[int]) -> None:
        """Lets go of files that have left the cache, or stand for old versions."""
        for row in rows:
            self._let_go(row)

    def close(self) -> None:
        """Lets go of all."""
        while self.files:
            os.close(self.files.popitem()[1].fd)


def _opened_again(fd: int, flags: int) -> int | None:
    """Another open of the same file, with flags of its own: a second fd would have the first's."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError:  # EINVAL: it is read through pages only. Or no fds are left: ask the worker
        return None
