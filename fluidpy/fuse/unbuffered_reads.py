"""READs of whole small files that are held open, past the kernel's pages, in few steps.

After a wait for the disk little of the interpreter is left in the processor's caches: each function
on the way costs some half a microsecond. So this one asks for things itself instead of calling on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, Protocol

from fluidpy.fuse.disk_pace import PATIENCE_SECONDS, DiskPace
from fluidpy.fuse.kept_files import KeptFiles

_REFUSED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""What takes `O_DIRECT` at the open only: file systems, disks of sectors larger than a page."""


class KnowsCompany(Protocol):
    """Who asks."""

    company: int
    """Above 0: others than the thread that asks may wait by now."""


class AnswersRequests(Protocol):
    """The kernel's side."""

    def reply(self, unique: int, payload: memoryview) -> None:
        """Answers a request."""


class UnbufferedReads:
    """Answers from kept files, while one thread alone reads and the disk is fast."""

    def __init__(
        self,
        device: AnswersRequests,
        waiting: KnowsCompany,
        kept: KeptFiles,
        *,
        view: memoryview,
        pace: DiskPace,
        clock: Callable[[], float],
        on_used: Callable[[int], None],
    ) -> None:
        """`view` begins at a page and has room for the largest READ; `on_used` hears of rows."""
        self._device = device
        self._waiting = waiting
        self._kept = kept
        self._view = view
        self._pace = pace
        self._clock = clock
        self._on_used = on_used
        kept.may_wait = self.may_wait

    def may_wait(self) -> bool:
        """Whether the next READ may be waited for."""
        return not self._waiting.company and self._pace.seconds <= PATIENCE_SECONDS

    def answer(self, unique: int, row: int, size: int) -> bool:
        """Answers a READ of the first `size` bytes of a kept file if that is all of it.

        False, and nothing answered, when it should not be waited for, or cannot be read so.
        """
        file = self._kept.files.get(row)
        if (
            file is None
            or file.size > size
            or not file.unbuffered
            or self._waiting.company
            or self._pace.seconds > PATIENCE_SECONDS
            or not self._kept.is_unchanged(row, file)
        ):
            return False
        clock, length = self._clock, file.size
        begin = clock()
        try:
            count = os.preadv(file.fd, (self._view[: file.whole_pages],), 0)
        except OSError as error:
            self._pace.took(clock() - begin)
            if error.errno in _REFUSED:
                file.unbuffered = False
            return False  # whoever reads it through pages meets it again, and says what it is
        if count != length:
            self._pace.took(clock() - begin)
            return False
        self._device.reply(unique, self._view[:length])
        self._pace.took(clock() - begin)
        self._on_used(row)
        # A file system may have gone through pages all the same (compressed files, journaled data).
        os.posix_fadvise(file.fd, 0, length, os.POSIX_FADV_DONTNEED)
        return True
