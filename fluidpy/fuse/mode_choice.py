"""The choice of a mount's read mode: what the kernel, the holder and the catalog say, then once.

Whether a backing id can be made is tried on an unnamed file in each directory of the cache. How
large the Dataset's files are is known when its catalog is: else at the first open.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from fluidpy.client.protocol import Message
from fluidpy.errors import FluidpyError, MountError
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import InitFlag
from fluidpy.fuse.negotiation import Negotiated
from fluidpy.fuse.read_modes import (
    AUTO,
    Obstacles,
    ReadMode,
    ReadModeChoice,
    TreeShape,
    choose,
)

PROBE_ROW: Final = 0
"""Stands for the tried file: catalogs count from 1."""

_NO_FLAG: Final = "the kernel does not offer it (it came with Linux 6.9, CONFIG_FUSE_PASSTHROUGH)"

_WHY: Final = {
    errno.EPERM: "the mount's holder has no CAP_SYS_ADMIN",
    errno.ELOOP: "the cache lies on a stacked file system (overlayfs over another one)",
    errno.EOPNOTSUPP: "the kernel or the cache's file system does not support it",
    errno.ENOTTY: "the kernel does not support it",
}

Tell: TypeAlias = Callable[[Message, tuple[int, ...]], object]
"""Sends a message, with fds, to the holder."""


class ModeChoice:
    """Chooses once; afterwards `chosen` says what."""

    def __init__(
        self,
        loop: EventLoop,
        asked: str,
        *,
        directories: Sequence[Path],
        shape: Callable[[], TreeShape],
        tell: Tell,
        on_chosen: Callable[[ReadModeChoice], None],
        on_impossible: Callable[[MountError], None],
    ) -> None:
        """`directories` are the cache's; `shape` is called in a thread of its own.

        `on_chosen` is called once. `on_impossible` instead, when what was asked for cannot be.
        """
        self._loop = loop
        self._asked = asked
        self._directories = list(directories)
        self._shape_of = shape
        self._tell = tell
        self._on_chosen = on_chosen
        self._on_impossible = on_impossible
        self._obstacles: Obstacles | None = None
        self._no_open = ""
        self._counting = False
        self._opened = False
        self._done = False

    def begin(self, negotiated: Negotiated) -> None:
        """INIT is done: tries what the kernel agreed to."""
        offered = negotiated.has(InitFlag.NO_OPEN_SUPPORT)
        self._no_open = "" if offered else "the kernel does not offer no-open (Linux 3.16)"
        if self._asked in (ReadMode.NO_OPEN, ReadMode.PLAIN):
            self._probed("it is not asked for")
        elif not negotiated.has(InitFlag.PASSTHROUGH):
            self._probed(_NO_FLAG)
        else:
            self._probe_next()

    def first_open(self) -> None:
        """A file is being opened: what is known by now has to do."""
        self._opened = True
        self._look()

    def on_backing(self, answer: Message) -> None:
        """The holder's answer about the tried file."""
        code = int(answer.get("errno") or 0)
        if code:
            self._probed(_WHY.get(code, os.strerror(code)))
            return
        self._tell({"backingClose": {"rows": [PROBE_ROW]}}, ())
        self._tell({"forgotten": {"rows": [PROBE_ROW]}}, ())
        self._probe_next()

    def _probe_next(self) -> None:
        if not self._directories:
            self._probed("")
            return
        directory = self._directories.pop(0)
        try:
            fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._probed(f"no file can be made in {directory} to try it: {error.strerror}")
            return
        try:
            self._tell({"backingOpen": {"row": PROBE_ROW}}, (fd,))
        finally:
            os.close(fd)

    def _probed(self, obstacle: str) -> None:
        self._obstacles = Obstacles(self._no_open, obstacle)
        self._look()

    def _look(self) -> None:
        if self._done or self._obstacles is None or self._counting:
            return
        if self._asked != AUTO or self._obstacles.passthrough or self._obstacles.no_open:
            self._choose(None)
        else:
            self._counting = True
            threading.Thread(target=self._count, name="catalog-shape", daemon=True).start()

    def _count(self) -> None:
        shape = None
        with suppress(FluidpyError):  # the catalog is being made: nothing is known
            shape = self._shape_of()
        self._loop.call_from_thread(lambda: self._counted(shape))

    def _counted(self, shape: TreeShape | None) -> None:
        self._counting = False
        if self._opened or (shape is not None and shape.files and shape.whole):
            self._choose(shape)

    def _choose(self, shape: TreeShape | None) -> None:
        if self._done:
            return
        self._done = True
        assert self._obstacles is not None
        try:
            choice = choose(self._asked, shape, self._obstacles)
        except MountError as error:
            self._on_impossible(error)
            return
        self._on_chosen(choice)
