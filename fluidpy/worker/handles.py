"""Open files of one connection: numbers that stand for one version of one object in use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from fluidpy.errors import UsageError
from fluidpy.worker.read_ahead import NOTHING, Plan, ReadAhead
from fluidpy.worker.unkept import AHEAD_WINDOW_BYTES

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.namespace.catalog import Entry
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.fills import FillTable
    from fluidpy.worker.object_fill import ObjectFill

MOST_HANDLES: Final = 100_000
"""Open files of one connection: each holds about 1 KiB of memory."""


class Handle:
    """One open file: its cache file if the store keeps it, its fill while bytes are missing."""

    __slots__ = (
        "cached",
        "dataset",
        "entry",
        "fill",
        "key",
        "namespace",
        "number",
        "read_ahead",
        "serial",
    )

    def __init__(
        self,
        number: int,
        dataset: AttachedDataset,
        entry: Entry,
        key: bytes,
        cached: CachedObject | None,
    ) -> None:
        """`number` is unique in the worker: it is the owner of this handle's read-ahead."""
        self.number = number
        self.dataset = dataset
        self.namespace = dataset.namespace
        """The one it was opened in: the Dataset's own until its definition changes."""
        self.entry = entry
        self.key = key
        self.cached = cached
        self.fill: ObjectFill | None = None
        self.read_ahead: ReadAhead | None = None
        self.serial = 0
        """`file_serial` of the cache file whose fd the client has; 0: it has none."""
        if cached is not None:
            cached.acquire()

    def plan(self, start: int, end: int, allowance: int) -> Plan:
        """What to fetch ahead now that `[start, end)` is read; `allowance` is in bytes."""
        if self.read_ahead is None:
            return NOTHING
        if self.fill is not None and self.fill.unkept:
            self.read_ahead.narrow(AHEAD_WINDOW_BYTES)
        return self.read_ahead.read(start, end, allowance)


class Handles:
    """The open files of one connection."""

    def __init__(self, fills: FillTable) -> None:
        """None yet."""
        self._fills = fills
        self._open: dict[int, Handle] = {}

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def check_room(self) -> None:
        """Raises UsageError when the client has too many files open."""
        if len(self._open) >= MOST_HANDLES:
            raise UsageError(
                f"this client has {MOST_HANDLES} files open", cure="Close files after reading."
            )

    def add(self, handle: Handle) -> None:
        """Takes a new handle over."""
        self._open[handle.number] = handle

    def get(self, number: Any) -> Handle:
        """The open file of that number. Raises UsageError."""
        handle = self._open.get(number) if type(number) is int else None
        if handle is None:
            raise UsageError("no file is open under that handle", cure="Open it again.")
        return handle

    def rows_of(self, dataset: AttachedDataset) -> set[int]:
        """The catalog rows of a Dataset that are open here."""
        return {h.entry.id for h in self._open.values() if h.dataset is dataset}

    def close(self, numbers: Iterable[Any]) -> None:
        """Closes files; values that stand for none are passed over."""
        for number in numbers:
            handle = self._open.pop(number, None) if type(number) is int else None
            if handle is not None:
                self._end(handle)

    def close_all(self) -> None:
        """Closes every file."""
        self.close(list(self._open))

    def _end(self, handle: Handle) -> None:
        if (ahead := handle.read_ahead) is not None:
            ahead.close()
            counters = handle.dataset.counters
            counters.read_ahead_bytes += ahead.planned_bytes
            counters.read_ahead_used_bytes += ahead.used_bytes
            counters.read_ahead_wasted_bytes += ahead.wasted_bytes
        if handle.fill is not None:
            handle.fill.withdraw(handle.number)
            self._fills.release(handle.fill)
        if handle.cached is not None:
            handle.cached.release()
