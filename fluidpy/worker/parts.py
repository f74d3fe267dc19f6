"""A part: a range of one object on its way from the source to those who wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fluidpy.errors import FluidpyError
from fluidpy.worker.admission import Request

if TYPE_CHECKING:
    from fluidpy.storage.under_storage import Buffer
    from fluidpy.worker.peer_reads import PeerRoute


class MountLimits(NamedTuple):
    """Requests that a mount may have under way, and how long one may take in seconds."""

    requests: int
    deadline_seconds: float


class MountKey(NamedTuple):
    """Stands for a mount in the admission: `id` of its storage, and its limits."""

    storage: int
    limits: MountLimits


class Guarded(Protocol):
    """What `FillTable.end_overdue` looks after: a task, and when what it does takes too long."""

    ends_by: float
    task: asyncio.Task[None] | None


class Part:
    """Bytes `[start, end)` of an object on their way; `done` is resolved however it ends."""

    __slots__ = (
        "ahead",
        "ahead_unkept",
        "data",
        "done",
        "end",
        "ends_by",
        "error",
        "keep",
        "moved",
        "request",
        "route",
        "start",
        "task",
        "waiters",
    )

    def __init__(self, start: int, end: int, done: asyncio.Future[None], ahead: bool) -> None:
        """`ahead`: planned before a reader asked, at the expense of the read-ahead's budget."""
        self.start = start
        self.end = end
        self.done = done
        self.ahead = ahead
        self.ends_by = float("inf")
        """When a part that is fetched has taken too long, on the event loop's clock."""
        self.keep = True
        """Whether the store shall keep it, if it can."""
        self.moved = False
        """Wanted only because other workers may have it: unless somebody waits for it, its source
        is not asked and nothing leaves the store for it."""
        self.error: FluidpyError | None = None
        self.data: Buffer | None = None
        """The bytes, when the store did not keep them."""
        self.waiters = 0
        self.ahead_unkept = False
        """Fetched ahead at the expense of `UnkeptParts`, since the store has no room for it."""
        self.route: PeerRoute | None = None
        """Other workers to ask before the source, where there are any."""
        self.request: Request[MountKey] | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether it is to be had at any price: somebody reads it."""
        return not self.moved or self.waiters > 0


def are_covered(gaps: list[tuple[int, int]], end: int, parts: list[Part]) -> bool:
    """Whether the parts hold all that the gaps lack before `end`."""
    for part in sorted(parts, key=lambda part: part.start):
        gaps = [(part.end if part.start <= a < part.end else a, b) for a, b in gaps]
        gaps = [(a, b) for a, b in gaps if a < min(b, end)]
    return not gaps
