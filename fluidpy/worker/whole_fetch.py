"""A small object on its way whole, for a load; a reader who comes meanwhile waits for the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fluidpy.worker.parts import Part

if TYPE_CHECKING:
    from fluidpy.errors import FluidpyError
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.storage.under_storage import Buffer
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.peer_reads import PeerRoute


class WholeFetch:
    """Stands in the table of fills for as long as the object is fetched; see `FillTable`."""

    __slots__ = ("_fill", "_part", "_task", "data", "error", "key", "located", "route")

    def __init__(
        self,
        key: bytes,
        located: Located,
        task: asyncio.Task[None] | None,
        route: PeerRoute | None,
    ) -> None:
        """`task` is the one that fetches; `route` names other workers that are asked first."""
        self.key = key
        self.located = located
        self.error: FluidpyError | None = None
        self.data: Buffer | None = None
        """The bytes, when they came and the store did not keep them."""
        self.route = route
        self._task = task
        self._part: Part | None = None
        self._fill: ObjectFill | None = None

    def join(self, fill: ObjectFill) -> None:
        """Shows the fetch to a reader's fill as a part that is under way."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        part = self._part = Part(0, self.located.entry.size, future, False)
        part.task, part.route = self._task, self.route
        for number in fill.blocks(part):
            fill.running[number] = part
        self._fill = fill

    def tell(self) -> None:
        """Ends the part of those who joined, with the error or the bytes."""
        part, fill = self._part, self._fill
        if part is not None and fill is not None:
            part.data = self.data
            part.error = self.error if self.data is None else None
            fill.end(part)
