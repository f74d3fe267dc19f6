"""Calls that may block for ever (a dead NFS server), kept off the event loop and off the exit.

The threads are daemons: one that hangs in the kernel delays neither the loop nor the end of the
process, as threads of `ThreadPoolExecutor` would. A caller waits no longer than the deadline; the
result of a late call is dropped.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fluidpy.errors import SourceTimeoutError

T = TypeVar("T")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class BlockingCalls:
    """A pool of at most `threads` daemon threads, started as they are needed."""

    def __init__(self, label: str, threads: int, deadline_seconds: float) -> None:
        """`label` is the mount, for messages and the threads' names."""
        self._label = label
        self._most = threads
        self._deadline = deadline_seconds
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()

    async def run(self, doing: str, call: Callable[[], T]) -> T:
        """The result of `call`, run in a thread. Raises SourceTimeoutError after the deadline."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._busy += 1
            grow = self._busy > len(self._threads) and len(self._threads) < self._most
        if grow:
            self._start_thread()
        self._jobs.put((loop, answer, call))
        late = loop.call_later(self._deadline, self._give_up, answer, doing)
        try:
            return await answer
        finally:
            late.cancel()

    def _give_up(self, answer: asyncio.Future[Any], doing: str) -> None:
        if not answer.done():
            answer.set_exception(
                SourceTimeoutError(
                    f"mount {self._label}: {doing} took longer than {self._deadline:g} s",
                    cure="Check that the file system below answers (a dead NFS server hangs).",
                )
            )

    def _start_thread(self) -> None:
        name = f"storage-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, answer, call = job
            if not answer.cancelled():
                self._answer(loop, answer, call)
            with self._lock:
                self._busy -= 1
            del job, answer, call

    def _answer(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], call: Callable[[], Any]
    ) -> None:
        try:
            result, error = call(), None
        except Exception as raised:  # noqa: BLE001  # handed to the caller, whatever it is
            result, error = None, raised
        try:
            loop.call_soon_threadsafe(_settle, answer, result, error)
        except RuntimeError:
            # The loop was closed while the call hung: nobody waits for the answer.
            return

    def close(self) -> None:
        """Ends the threads as they become idle; those that hang are left to the exit."""
        for _ in self._threads:
            self._jobs.put(None)


def _settle(answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
