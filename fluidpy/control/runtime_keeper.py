"""One Dataset's runtime on this machine: what its driver wants is carried out and looked at.

Commands run in order, then processes are kept running (`kept_process`). What is seen of them, and
the texts that the driver asked for, become a state by `driver.observe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fluidpy.cluster.private_files import replace_privately
from fluidpy.control import linux_processes as linux
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.process_order import ProcessOrder
from fluidpy.control.runtime_commands import run_command
from fluidpy.control.runtime_readings import RuntimeReadings
from fluidpy.errors import ControlPlaneError, FluidpyError
from fluidpy.runtime.driver import (
    Desired,
    LongRunning,
    PrivateFile,
    RuntimeDriver,
    RuntimePlace,
    RuntimeState,
    Seen,
    SeenProcess,
)

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Time between two looks at a runtime that is ready."""

SOON_SECONDS: Final = 0.1
"""Time between two looks at one that is about to be."""

PAUSES: Final = (0.5, 2.0, 10.0, 30.0)
"""Seconds before commands that failed are tried again; the last one repeats."""

PROCESSES: Final = "processes"
"""Folder in a runtime's directory with one folder a process."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A runtime as it is to be: a driver, and what it settled."""

    driver: RuntimeDriver
    plan: Any
    place: RuntimePlace

    @property
    def desired(self) -> Desired:
        """What has to run."""
        return self.driver.desired(self.plan)


def place_of(runtime_dir: Path, state_dir: Path, key: str) -> RuntimePlace:
    """The directories of the runtime of the Dataset `namespace/name`."""
    root = directory_of(runtime_dir, key)
    return RuntimePlace(root / "work", root / "mount" / "fuse", state_dir / "runtime-caches" / key)


def directory_of(runtime_dir: Path, key: str) -> Path:
    """What there is of a runtime while it runs lies there, named as the mount table names it."""
    return runtime_dir.resolve() / "runtimes" / key


class RuntimeKeeper:
    """Keeps one runtime as it is wanted, in a task of its own."""

    def __init__(
        self,
        key: str,
        directory: Path,
        threads: ThreadPoolExecutor,
        on_change: Callable[[], None],
    ) -> None:
        """Does nothing until something is wanted."""
        self.key = key
        self.state = RuntimeState(ready=False, reason="it is being started")
        self._readings = RuntimeReadings(key)
        self._directory, self._threads, self._on_change = directory, threads, on_change
        self._wanted: Assignment | None = None
        self._processes: dict[str, KeptProcess] = {}
        self._done: Desired | None = None
        self._failures, self._failure, self._not_before = 0, "", 0.0
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def want(self, assignment: Assignment) -> None:
        """Has the runtime be so."""
        if assignment != self._wanted:
            if self._wanted is None or assignment.desired != self._wanted.desired:
                self._failures, self._not_before = 0, 0.0
                self.state = replace(self.state, ready=False, reason="it is being started")
            self._wanted = assignment
            self._wake.set()

    async def leave(self) -> None:
        """Lets go of the runtime, which goes on."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def stop_seconds(self) -> float:
        """How long its programs may take to end, one after the other."""
        return sum(self._process(name).stop_seconds for name in self._names())

    async def end(self, *, teardown: bool, last: Assignment | None = None) -> None:
        """Ends all processes; with `teardown` what the driver wants done at deletion is done too.

        `last` is the runtime as it was, for one that was taken over and never wanted. Raises
        FluidpyError; it may be called again then.
        """
        wanted = self._wanted or last
        await self.leave()
        self.state = RuntimeState(ready=False, reason="it is being ended")
        for name in await self._in_thread(self._names):
            await self._in_thread(self._process(name).end)
        if teardown and wanted is None:
            _log.warning(
                "of the runtime of %s its driver is not asked what is to be removed", self.key
            )
        if teardown and wanted is not None:
            to_do = wanted.driver.teardown(wanted.plan)
            for command in to_do.commands:
                await run_command(command)
            for path in (*to_do.remove, wanted.place.cache):
                await self._in_thread(remove_unmounted, path)
        await self._in_thread(remove_unmounted, self._directory)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """One piece of work at a time: what nobody awaits any more goes on to its end."""

        def alone() -> Any:
            with self._lock:
                return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, alone)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._wanted is not None:
                await self._look(self._wanted)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self.state.ready else SOON_SECONDS):
                    await self._wake.wait()

    async def _look(self, wanted: Assignment) -> None:
        before = self.state
        try:
            desired = wanted.desired
            if desired != self._done:
                await self._carry_out(desired)
            else:
                await self._in_thread(self._keep, desired.processes)
            seen = Seen(await self._in_thread(self._seen, desired), self._readings.texts)
            state = wanted.driver.observe(wanted.plan, seen)
            await self._readings.read(desired.readings if state.ready else ())
            if self._failure and not state.ready:
                state = replace(state, reason=self._failure)
        except (FluidpyError, OSError) as error:
            state = RuntimeState(ready=False, reason=str(error))
        except Exception as error:  # noqa: BLE001 - a foreign driver may raise anything
            _log.error("the runtime of %s failed", self.key, exc_info=error)
            state = RuntimeState(ready=False, reason=f"its driver failed: {error!r}")
        if wanted is self._wanted:
            self.state = state
        if state != before:
            self._on_change()

    async def _carry_out(self, desired: Desired) -> None:
        """Commands, then processes; what failed is tried again after a pause."""
        if time.monotonic() < self._not_before:
            return
        try:
            if not await self._in_thread(self._is_running, desired.processes):
                await self._in_thread(self._make_directories, desired.directories)
                for command in desired.commands:
                    await self._in_thread(write_files, command.files)
                    await run_command(command)
            await self._in_thread(self._keep, desired.processes)
        except (FluidpyError, OSError) as error:
            self._failures += 1
            self._failure = str(error)
            pause = PAUSES[min(self._failures, len(PAUSES)) - 1]
            self._not_before = time.monotonic() + pause
            _log.warning("the runtime of %s does not start: %s", self.key, error)
            return
        self._done, self._failures, self._failure = desired, 0, ""

    def _make_directories(self, directories: Sequence[Path]) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in directories:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _is_running(self, processes: Sequence[LongRunning]) -> bool:
        """Whether all runs as it is wanted already, as the last control plane left it."""
        return bool(processes) and all(
            self._process(one.command.name).follows(order_of(one)) for one in processes
        )

    def _keep(self, processes: Sequence[LongRunning]) -> None:
        """Begins what does not run, ends what is not wanted, or not in this way."""
        wanted = {one.command.name: one for one in processes}
        for folder in self._names():
            if folder not in {_folder(name) for name in wanted}:
                self._process(folder).end()
        changed = {
            name: one
            for name, one in wanted.items()
            if not self._process(name).follows(order_of(one))
        }
        for name in changed:  # before any begins: a target may have become another one's
            if self._process(name).supervisor_pid() is not None:
                self._process(name).end()
        for name, one in changed.items():
            process, order = self._process(name), order_of(one)
            self._make_directories(())
            write_files(one.command.files)
            process.begin(order)

    def _names(self) -> list[str]:
        folder = self._directory / PROCESSES
        return sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []

    def _process(self, name: str) -> KeptProcess:
        folder = _folder(name)
        if folder not in self._processes:
            self._processes[folder] = KeptProcess(self._directory / PROCESSES / folder)
        return self._processes[folder]

    def _seen(self, desired: Desired) -> dict[str, SeenProcess]:
        names = [one.command.name for one in desired.processes]
        return {name: self._process(name).seen() for name in names}


def remove_unmounted(directory: Path) -> None:
    """Removes a directory with all it holds, unless something is mounted there: that is the user's.

    Raises ControlPlaneError.
    """
    try:
        linux.refuse_mounts(directory)
    except OSError as error:
        raise ControlPlaneError(
            f"{directory} is not removed: {error.strerror}",
            cure="End what uses it; it is tried again.",
        ) from error
    shutil.rmtree(directory, ignore_errors=True)


def order_of(one: LongRunning) -> ProcessOrder:
    """What the supervisor of a process is asked for."""
    digest = hashlib.blake2b(digest_size=16)
    for file in one.command.files:
        digest.update(f"{file.path}\0{len(file.content)}\0".encode() + file.content)
    mount = one.mount
    return ProcessOrder(
        one.command.name,
        one.command.arguments,
        one.command.environment,
        target="" if mount is None else os.fspath(mount.target),
        filesystem_type="" if mount is None else mount.filesystem_type,
        ready_seconds=30.0 if mount is None else mount.ready_seconds,
        stop_seconds=one.stop_seconds,
        unmount=one.unmount,
        redacted=one.redacted,
        binds={os.fspath(place): os.fspath(shown) for place, shown in one.binds},
        files=digest.hexdigest(),
    )


def _folder(name: str) -> str:
    """The folder of a process: its name, in characters that any folder may have."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".") or "process"


def write_files(files: Sequence[PrivateFile]) -> None:
    """Writes files for their owner only, with the folders above them. Raises OSError."""
    for file in files:
        file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_privately(file.path, file.content)
