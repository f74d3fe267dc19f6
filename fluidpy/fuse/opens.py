"""OPEN and RELEASE in the mount's read mode; opens wait for the choice of it."""

from __future__ import annotations

import errno
from collections.abc import Callable

from fluidpy.fuse.device import Device
from fluidpy.fuse.node_ids import NodeIds
from fluidpy.fuse.passthrough_files import OpensFiles, PassthroughFiles
from fluidpy.fuse.read_modes import ReadMode


class Opens:
    """Answers OPEN and RELEASE of files."""

    def __init__(
        self,
        device: Device,
        plain: OpensFiles,
        passthrough: PassthroughFiles,
        node_ids: NodeIds,
        on_first: Callable[[], None],
    ) -> None:
        """`on_first` is called for each open that comes before the mode is chosen."""
        self._device = device
        self._plain = plain
        self._passthrough = passthrough
        self._node_ids = node_ids
        self._on_first = on_first
        self._early: list[tuple[int, int]] = []
        self._open: Callable[[int, int], None] = self._wait
        self.mode: ReadMode | None = None

    def use(self, mode: ReadMode) -> None:
        """The mode is chosen: opens that waited are answered."""
        self.mode = mode
        if mode is ReadMode.PASSTHROUGH:
            self._node_ids.pass_through(self._passthrough.shown, self._passthrough.offer)
            self._open = self._passthrough.open
        elif mode is ReadMode.NO_OPEN:
            self._open = self._refuse
        else:
            self._open = self._plain.open
        early, self._early = self._early, []
        for unique, node in early:
            self._open(unique, node)

    def open(self, unique: int, node: int) -> None:
        """OPEN."""
        self._open(unique, node)

    def _refuse(self, unique: int, _node: int) -> None:
        """ENOSYS: the kernel asks no more for opens of this mount."""
        self._device.reply_error(unique, errno.ENOSYS)

    def _wait(self, unique: int, node: int) -> None:
        self._early.append((unique, node))
        self._on_first()

    def release(self, unique: int, node: int) -> None:
        """RELEASE."""
        if node & 1:
            self._passthrough.release(unique, node)
        else:
            self._plain.release(unique, node)
