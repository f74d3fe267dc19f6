"""Who may ask the source next: bounded requests a mount, bounded bytes in memory over all mounts.

Bytes under way lie in memory until they are written, so their sum bounds the worker's memory. A
mount with nothing under way is always let in with one request, so that a slow source that holds
the whole budget cannot stop the others. Those whom a reader waits for go first; what is fetched
ahead or for a load takes turns between its owners (open handles, loads) after them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

BYTES_UNDER_WAY: Final = 128 * 1024 * 1024
"""Bound of all requests under way, in bytes: sixteen parts of the default size, which is where one
client's throughput from an object store on 2 cores stops growing."""


MountT = TypeVar("MountT", bound=Hashable)


class Request(Generic[MountT]):
    """A wish to fetch `size` bytes for a mount; `start` is called once, when its turn has come."""

    __slots__ = ("mount", "owner", "size", "start", "state")

    def __init__(
        self, mount: MountT, size: int, start: Callable[[], None], owner: Hashable = None
    ) -> None:
        """Not yet known to an admission."""
        self.mount = mount
        self.size = size
        self.start = start
        self.owner = owner
        """Whose turn it uses when it is not urgent; None for an urgent one."""
        self.state = _NEW

    @property
    def running(self) -> bool:
        """Whether it has been let in."""
        return self.state == _RUNNING


_NEW, _QUEUED, _RUNNING, _DONE = range(4)


class _Mount(Generic[MountT]):
    """Requests of one mount: under way, and waiting by urgency and owner."""

    __slots__ = ("limit", "running", "turns", "urgent")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.urgent: deque[Request[MountT]] = deque()
        self.turns: OrderedDict[Hashable, deque[Request[MountT]]] = OrderedDict()

    def idle(self) -> bool:
        return not (self.running or self.urgent or self.turns)

    def next(self) -> Request[MountT] | None:
        """The request whose turn it is, still queued; drops those that were withdrawn."""
        while self.urgent:
            if self.urgent[0].state == _QUEUED:
                return self.urgent[0]
            self.urgent.popleft()
        while self.turns:
            owner, queue = next(iter(self.turns.items()))
            while queue and queue[0].state != _QUEUED:
                queue.popleft()
            if queue:
                return queue[0]
            del self.turns[owner]
        return None

    def take(self, request: Request[MountT]) -> None:
        """Removes what `next` returned; its owner goes to the end of the line."""
        if self.urgent and self.urgent[0] is request:
            self.urgent.popleft()
            return
        owner, queue = next(iter(self.turns.items()))
        queue.popleft()
        if queue:
            self.turns.move_to_end(owner)
        else:
            del self.turns[owner]


class Admission(Generic[MountT]):
    """Lets requests in; for one thread. `limit_of` gives a mount's bound of requests under way."""

    def __init__(
        self, limit_of: Callable[[MountT], int], bytes_under_way: int = BYTES_UNDER_WAY
    ) -> None:
        """Nothing under way; `bytes_under_way` is the bound over all mounts."""
        self._limit_of = limit_of
        self._bound = bytes_under_way
        self._mounts: dict[MountT, _Mount[MountT]] = {}
        self.bytes_running = 0

    def enter(self, request: Request[MountT]) -> None:
        """Starts the request now or when its turn has come."""
        mount = self._mounts.get(request.mount)
        if mount is None:
            mount = self._mounts[request.mount] = _Mount(max(1, self._limit_of(request.mount)))
        request.state = _QUEUED
        if mount.running < mount.limit and self._fits(mount, request) and mount.next() is None:
            self._start(mount, request)
        elif request.owner is None:
            mount.urgent.append(request)
        else:
            mount.turns.setdefault(request.owner, deque()).append(request)

    def hurry(self, request: Request[MountT]) -> None:
        """Somebody waits for the request now: if it is queued, it goes with the urgent ones."""
        if request.state == _QUEUED and request.owner is not None:
            mount = self._mounts[request.mount]
            queue = mount.turns.get(request.owner)
            if queue is not None:
                queue.remove(request)
                if not queue:
                    del mount.turns[request.owner]
            request.owner = None
            mount.urgent.append(request)

    def leave(self, request: Request[MountT]) -> None:
        """The request has ended, or is not wanted any more; the next ones start."""
        was_running = request.state == _RUNNING
        request.state = _DONE
        if was_running:
            self.bytes_running -= request.size
            mount = self._mounts[request.mount]
            mount.running -= 1
            self._let_in(request.mount, mount)

    def _fits(self, mount: _Mount[MountT], request: Request[MountT]) -> bool:
        return mount.running == 0 or self.bytes_running + request.size <= self._bound

    def _start(self, mount: _Mount[MountT], request: Request[MountT]) -> None:
        request.state = _RUNNING
        mount.running += 1
        self.bytes_running += request.size
        request.start()

    def _let_in(self, key: MountT, mount: _Mount[MountT]) -> None:
        """Starts what fits now, of this mount first: others may have waited for bytes."""
        self._start_waiting(mount)
        if len(self._mounts) > 1:
            for other in list(self._mounts.values()):
                self._start_waiting(other)
        if mount.idle():
            self._mounts.pop(key, None)

    def _start_waiting(self, mount: _Mount[MountT]) -> None:
        while mount.running < mount.limit:
            request = mount.next()
            if request is None or not self._fits(mount, request):
                return
            mount.take(request)
            self._start(mount, request)
