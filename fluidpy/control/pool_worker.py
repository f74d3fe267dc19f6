"""One worker of the pool: taken over or started, watched, attached to its Datasets, started again.

A worker outlives the control plane. Whoever listens at its socket is the worker (its own lock sees
to it that there is one only), so that the next control plane finds it by connecting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from fluidpy.client.connection import LostConnectionError, WorkerConnection
from fluidpy.client.protocol import Message, Operation, close_all
from fluidpy.client.start import (
    MANAGED_FILE,
    connect,
    peer_of,
    prepare_runtime_directory,
    start_worker,
)
from fluidpy.control.dataset_status import Trouble
from fluidpy.control.process_end import end_process, reap
from fluidpy.errors import FluidpyError, WorkerStartError, WorkerTimeoutError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Time between two looks at a worker that nothing is wanted of."""

REST_SECONDS: Final = 4.0
"""The same while it says the same again and again: two hundred Datasets cost it 10 ms a look."""

ANSWER_SECONDS: Final = 10.0
"""How long a worker may take to say how it is."""

ATTACH_SECONDS: Final = 30.0
"""How long a worker may take to open a Dataset; it asks no source for that."""

SILENT_LOOKS: Final = 3
"""A worker that did not answer so often in a row hangs, and is killed."""

PAUSES: Final = (0.0, 0.2, 1.0, 2.0, 5.0)
"""Seconds before a worker that ended, or did not start, is started again; the last one repeats."""

STEADY_SECONDS: Final = 30.0
"""A worker that ran for so long begins with the first pause again."""

STOP_SECONDS: Final = 10.0
"""How long a worker may take to end when asked to."""

IDLE_SECONDS: Final = 3600.0
"""A worker that nobody is connected to ends then: its control plane is gone for good."""

_T = TypeVar("_T")


def worker_settings(settings: Settings, name: str) -> Settings:
    """The settings that a worker of the pool, and whoever connects to it, has."""
    return replace(
        settings,
        runtime_dir=settings.runtime_dir / "w" / name,
        cache_dir=settings.state_dir / "workers" / name,
        worker_runtime_dir=None,
    )


class PoolWorker:
    """Keeps one worker running and serving what is wanted of it, in a task of its own."""

    def __init__(
        self,
        name: str,
        address: str,
        settings: Settings,
        membership_file: Path,
        threads: ThreadPoolExecutor,
        on_change: Callable[[], None],
    ) -> None:
        """`settings` are the control plane's; `on_change` hears of anything that changed."""
        self.name = name
        self.address = address
        self.settings = worker_settings(settings, name)
        self.state = "Starting"
        self.failure = ""
        self.failures = 0
        self.failed_starts = 0
        """Starts that failed in a row; other failures are of this process, or of the machine."""
        self.has_answered = False
        """Whether it has told who uses it since this process looks after it."""
        self.restarts = 0
        self.pid = 0
        self.status: Message | None = None
        """What the worker last said of itself; None while it does not answer."""
        self.attached: dict[str, str] = {}
        """Digests of the definitions that it serves, by Dataset."""
        self.troubles: dict[str, Trouble] = {}
        """Why it does not serve a Dataset as it is wanted."""
        self.connection = WorkerConnection(self.settings)
        self.changes = 0
        self._wanted: dict[str, DatasetDefinition] = {}
        self._evict: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._generation = 0
        self._membership_file = membership_file
        self._threads = threads
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._leaving = False
        self._silent = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.state == "Ready" and self.status is not None

    def want(self, definitions: Mapping[str, DatasetDefinition], evict: set[str]) -> None:
        """Has it serve these Datasets and no others; of those in `evict` nothing stays cached."""
        if dict(definitions) != self._wanted or not evict <= self._evict:
            self._wanted = dict(definitions)
            self._evict |= evict
            self._wake.set()

    def serves(self, definition: DatasetDefinition) -> bool:
        """Whether it serves the Dataset by that definition."""
        return self.is_ready and self.attached.get(definition.key) == definition.digest()

    async def stop(self) -> None:
        """Ends the worker, by force if it does not end by itself."""
        self._leaving = True
        self.state = "Stopping"
        self._wake.set()
        await self._end_task()
        found = await self._in_thread(self._find)
        if found is not None:
            with contextlib.suppress(FluidpyError):  # then it is killed
                await self._in_thread(self._call, Operation.STOP, ANSWER_SECONDS)
            await end_process(*found, STOP_SECONDS)
        self.connection.close()

    async def leave(self) -> None:
        """Lets go of the worker, which goes on."""
        self._leaving = True
        self._wake.set()
        await self._end_task()
        self.connection.close()

    async def _end_task(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _run(self) -> None:
        while not self._leaving:
            begun = time.monotonic()
            try:
                pid, ended = await self._begin()
                try:
                    await self._serve(pid, ended)
                finally:
                    os.close(ended)
            except (FluidpyError, OSError) as error:
                self._failed(str(error))
            except Exception as error:  # noqa: BLE001 - such as no more threads: it is tried again
                _log.error("%s cannot be looked after", self.name, exc_info=error)
                self._failed(repr(error))
            else:
                self._lost(time.monotonic() - begun)
            pause = PAUSES[min(self.failures, len(PAUSES)) - 1] if self.failures else 0.0
            await asyncio.sleep(pause)

    def _failed(self, why: str) -> None:
        _log.error("%s does not start: %s", self.name, why)
        self.state, self.failure = "Failed", why
        self.failures += 1
        self._changed()

    def _lost(self, seconds: float) -> None:
        if self._leaving:
            return
        _log.warning("%s (process %d) ended: it is started again", self.name, self.pid)
        self.failures = 1 if seconds > STEADY_SECONDS else self.failures + 1
        self.restarts += 1
        self.state, self.status, self.pid = "Restarting", None, 0
        self.attached.clear()
        self._changed()

    async def _begin(self) -> tuple[int, int]:
        """The worker's pid, and an fd that tells its end; it is started if nobody listens."""
        found = await self._in_thread(self._find)
        if found is None:
            try:
                await self._in_thread(self._start)
            except FluidpyError:
                self.failed_starts += 1
                raise
            found = await self._in_thread(self._find)
        if found is None:
            raise WorkerTimeoutError(
                f"{self.name} was started and does not listen",
                cure=f"Look at {self.settings.runtime_dir / 'worker.log'}.",
            )
        self.failed_starts = 0
        return found

    def _find(self) -> tuple[int, int] | None:
        """Whoever listens: a connected socket names the process that made it listen."""
        if not self.settings.runtime_dir.is_dir():
            return None
        connection = connect(self.settings)
        if connection is None:
            return None
        with connection:
            pid, _uid = peer_of(connection)
            try:
                return pid, os.pidfd_open(pid)
            except ProcessLookupError:
                return None

    def _start(self) -> None:
        for directory in (self.settings.runtime_dir.parent, self.settings.runtime_dir):
            prepare_runtime_directory(directory)
        try:
            self.settings.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.settings.runtime_dir / MANAGED_FILE).touch(0o600)
        except OSError as error:
            raise WorkerStartError(
                f"{error.filename} cannot be made: {error.strerror}",
                cure="Free space there or mend its permissions, or set another FLUIDPY_STATE_DIR.",
            ) from error
        start_worker(
            self.settings,
            time.monotonic() + self.settings.worker_start_seconds,
            {
                "FLUIDPY_MEMBER_NAME": self.name,
                "FLUIDPY_MEMBERSHIP_FILE": os.fspath(self._membership_file),
                "FLUIDPY_LISTEN": self.address,
                "FLUIDPY_IDLE_SECONDS": str(IDLE_SECONDS),
            },
        )

    async def _serve(self, pid: int, ended: int) -> None:
        """Until the worker ends: attaches what is wanted, and asks how it is."""
        self.pid, self._silent = pid, 0
        pause = LOOK_SECONDS
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()

        def on_end() -> None:
            loop.remove_reader(ended)
            gone.set()
            self._wake.set()

        loop.add_reader(ended, on_end)
        try:
            while not (gone.is_set() or self._leaving):
                self._wake.clear()
                before = _timeless(self.status)
                await self._look()
                changed = self.status is None or _timeless(self.status) != before
                pause = LOOK_SECONDS if changed else min(2 * pause, REST_SECONDS)
                if changed:
                    self._on_change()
                if self._silent >= SILENT_LOOKS:
                    _log.error("%s (process %d) does not answer: it is killed", self.name, pid)
                    signal.pidfd_send_signal(ended, signal.SIGKILL)
                    self._silent = 0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                        pause = LOOK_SECONDS
        finally:
            loop.remove_reader(ended)
            reap(pid)

    async def _look(self) -> None:
        before = (self.state, dict(self.attached), dict(self.troubles))
        try:
            status = await self._in_thread(self._sync)
        except WorkerTimeoutError as error:
            self._silent += 1
            self.status, self.failure = None, str(error)
        except LostConnectionError:
            self.status = None
        except FluidpyError as error:
            self.status, self.failure = None, str(error)
        else:
            self._silent = 0
            if self._is_outdated(status):
                await self._in_thread(self._ask_to_end)
                self.status = None
            else:
                self.status, self.state, self.failure = status, "Ready", ""
                self.has_answered = True
        if before != (self.state, self.attached, self.troubles):
            self._changed()

    def _is_outdated(self, status: Message) -> bool:
        """Whether the worker speaks another way with its peers than it is to by now."""
        wanted = (self.address, self.settings.certificate_file is not None)
        return (status.get("address"), status.get("tls", False)) != wanted

    def _ask_to_end(self) -> None:
        _log.info("%s: its address or its certificate is another one now", self.name)
        with contextlib.suppress(FluidpyError):  # it is asked again at the next look
            self._call(Operation.STOP, ANSWER_SECONDS)

    def _changed(self) -> None:
        self.changes += 1
        self._on_change()

    def _sync(self) -> Message:
        """Attaches, detaches, and asks; in a thread. What one Dataset fails at harms no other."""
        self.connection.connect(deadline=ANSWER_SECONDS)
        if self._generation != self.connection.generation:
            self._generation = self.connection.generation
            self.attached.clear()
        wanted = dict(self._wanted)
        for key in set(self.attached) - set(wanted):
            self._detach(key)
        if self.status is not None:
            for key in self._evict.difference(wanted, self.attached):
                self._evict_of_earlier(key, self.status)
        for key, definition in wanted.items():
            if self.attached.get(key) != definition.digest():
                self._attach(key, definition)
        return self._call(Operation.STATUS, ANSWER_SECONDS)

    def _attach(self, key: str, definition: DatasetDefinition) -> None:
        try:
            wire = definition.to_wire()
            answer = self._call(Operation.ATTACH, ATTACH_SECONDS, definition=wire, manage=True)
        except (LostConnectionError, WorkerTimeoutError):
            raise
        except FluidpyError as error:
            self.troubles[key] = Trouble(type(error).__name__.removesuffix("Error"), str(error))
        else:
            self.attached[key] = definition.digest()
            self._numbers[key] = int(answer["dataset"])
            self.troubles.pop(key, None)

    def _detach(self, key: str) -> None:
        if key in self._evict:
            self._evict.discard(key)
            with contextlib.suppress(FluidpyError):  # what stays cached is evicted in its turn
                number = self._numbers[key]
                self._call(Operation.EVICT, ANSWER_SECONDS, dataset=number, path="")
        self._call(Operation.DETACH, ANSWER_SECONDS, key=key)
        self.attached.pop(key, None)
        self.troubles.pop(key, None)

    def _evict_of_earlier(self, key: str, status: Message) -> None:
        """Of a Dataset that an earlier control plane attached, known from what the worker says."""
        self._evict.discard(key)
        with contextlib.suppress(FluidpyError):  # as in `_detach`
            for row in status["datasets"]:
                if row["key"] == key:
                    number = row["dataset"]
                    self._call(Operation.EVICT, ANSWER_SECONDS, dataset=number, path="")

    def _call(self, operation: str, deadline: float, **fields: Any) -> Message:
        ok, fds = self.connection.call(operation, deadline=deadline, **fields)
        close_all(fds)
        return ok


def _timeless(status: Message | None) -> Message | None:
    """What a worker says, without its age."""
    return status and {name: value for name, value in status.items() if name != "seconds"}
