"""A small event loop: one thread, epoll, a timer heap, and a door for other threads.

asyncio adds more to each event than a whole answer to the kernel may cost here.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final, TypeAlias

Callback: TypeAlias = Callable[[], None]

READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
WRITABLE: Final = select.EPOLLOUT


class Timer:
    """A call that is to happen later, unless it is cancelled first."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callback) -> None:
        """Made by `EventLoop.call_later`."""
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        """Makes sure that the call does not happen."""
        self._callback = None

    def run(self) -> None:
        """Makes the call, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class EventLoop:
    """Calls back when fds are ready, when time has come, and when another thread asks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self.clock = clock
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._calls: deque[Callback] = deque()
        self._soon: list[Callback] = []
        self._door = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._running = False
        self._look_until = 0.0
        self.watch(self._door, self._open_door)

    @property
    def door(self) -> int:
        """The fd that `call_from_thread` writes to."""
        return self._door

    def watch(self, fd: int, callback: Callable[[int], None]) -> None:
        """Calls `callback(events)` whenever `fd` is readable or its peer is gone."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, READABLE)

    def watch_writable(self, fd: int, wanted: bool) -> None:
        """Whether the callback of a watched fd is called when it can be written, too."""
        self._epoll.modify(fd, READABLE | WRITABLE if wanted else READABLE)

    def unwatch(self, fd: int) -> None:
        """Ends `watch`; to be called before the fd is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Calls once, `seconds` from now."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.clock() + seconds, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callback) -> None:
        """Calls once, when the fds that are ready now had their turn."""
        self._soon.append(callback)

    def look_for(self, seconds: float) -> None:
        """Does not sleep for so long: looks at all fds again and again."""
        self._look_until = self.clock() + seconds

    def call_from_thread(self, callback: Callback) -> None:
        """Calls soon, in the loop's thread; safe from any thread."""
        self._calls.append(callback)
        os.eventfd_write(self._door, 1)

    def _open_door(self, _events: int) -> None:
        os.eventfd_read(self._door)
        while self._calls:
            self._calls.popleft()()

    def run(self) -> None:
        """Serves until `stop`."""
        self._running = True
        callbacks, poll = self._callbacks, self._epoll.poll
        while self._running:
            for fd, events in poll(self.patience(), 16):
                callback = callbacks.get(fd)
                if callback is not None:  # it may have been unwatched just now
                    callback(events)
            if self._soon:
                self._run_soon()
            if self._timers:
                self._run_timers()

    def stop(self) -> None:
        """Ends `run` after the callbacks at hand."""
        self._running = False

    def _run_soon(self) -> None:
        callbacks, self._soon = self._soon, []
        for callback in callbacks:
            callback()

    def patience(self) -> float | None:
        """Seconds that the loop would sleep now; None: until something happens."""
        if self._soon:
            return 0.0
        if self._look_until:
            if self.clock() < self._look_until:
                return 0.0
            self._look_until = 0.0
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - self.clock())

    def _run_timers(self) -> None:
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].run()

    def close(self) -> None:
        """Gives back the loop's own fds."""
        self._epoll.close()
        os.close(self._door)
