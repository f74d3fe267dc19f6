"""Bytes that the store could not keep, held in memory for a short while.

Without them a reader of a source that cannot be cached would fetch a whole block for each small
read. They belong to the fill of an object in use and leave with it, oldest first beyond the bound.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.parts import Part

UNKEPT_BYTES: Final = 32 * 1024 * 1024
"""Bound of all bytes held, over all objects: a few parts of the default size."""

AHEAD_SHARE: Final = 2
"""The part of the bound that may be under way ahead of readers: with more, bytes would leave before
they are read, and be fetched again."""

AHEAD_WINDOW_BYTES: Final = UNKEPT_BYTES // 4
"""Read-ahead of one reader of what is not kept: so four of them find their bytes."""


class UnkeptParts:
    """The parts held, in order of arrival; fills find theirs by block in `ObjectFill.unkept`."""

    def __init__(self, bound: int = UNKEPT_BYTES) -> None:
        """Holds nothing yet; `bound` is in bytes."""
        self._bound = bound
        self._parts: OrderedDict[Part, ObjectFill] = OrderedDict()
        self._bytes = 0
        self._ahead = 0

    def may_come(self, part: Part) -> bool:
        """Whether to fetch a part that is not kept: it must not leave again before it is read.

        `ended` follows.
        """
        length = part.end - part.start
        if not part.ahead or part.waiters:
            return True
        if self._ahead + length > self._bound // AHEAD_SHARE:
            return False
        part.ahead_unkept = True
        self._ahead += length
        return True

    def ended(self, part: Part) -> None:
        """A part has come, or failed."""
        if part.ahead_unkept:
            part.ahead_unkept = False
            self._ahead -= part.end - part.start

    def add(self, fill: ObjectFill, part: Part) -> None:
        """Holds a part; older ones leave when there is no room."""
        self._parts[part] = fill
        self._bytes += part.end - part.start
        for number in fill.blocks(part):
            fill.unkept[number] = part
        while self._bytes > self._bound:
            oldest = next(iter(self._parts))
            self._remove(oldest)

    def drop(self, fill: ObjectFill) -> None:
        """Forgets all parts of an object."""
        for part in set(fill.unkept.values()):
            self._remove(part)

    def _remove(self, part: Part) -> None:
        fill = self._parts.pop(part, None)
        if fill is None:
            return
        self._bytes -= part.end - part.start
        for number in fill.blocks(part):
            if fill.unkept.get(number) is part:
                del fill.unkept[number]
