"""A load that an engine carries out itself: its commands, one after the other, for one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Final

from fluidpy.control.data_load import LoadStep
from fluidpy.control.load_progress import NOTHING, MemberCounts
from fluidpy.control.runtime_commands import run_command
from fluidpy.control.runtime_keeper import Assignment
from fluidpy.errors import ControlPlaneError, FluidpyError
from fluidpy.runtime.driver import EngineDriver, LoadOutcome

PAUSES: Final = (0.3, 0.7, 2.0, 0.0)
"""Seconds after each failure of a step: as often as Fluid's Jobs are tried (backoffLimit 3)."""


class EngineLoad:
    """`run` blocks; `stop` may be called by any thread, at any time."""

    def __init__(self, engine: Assignment, steps: Sequence[LoadStep]) -> None:
        """`engine` is one whose driver is an EngineDriver."""
        assert isinstance(engine.driver, EngineDriver)
        self._driver, self._plan = engine.driver, engine.plan
        self._steps = tuple(steps)
        self._lock = threading.Lock()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[MemberCounts] | None = None

    def run(self) -> MemberCounts:
        """What was done and what failed. Raises ControlPlaneError when it was stopped."""
        try:
            return asyncio.run(self._run())
        except asyncio.CancelledError:
            raise _given_up() from None

    def stop(self) -> None:
        """Ends the command under way; none begins after it."""
        with self._lock:
            self._stopped = True
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> MemberCounts:
        with self._lock:
            if self._stopped:
                raise _given_up()
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            counts = NOTHING
            for step in self._steps:
                counts = counts.plus(await self._step(step))
            return counts
        finally:
            with self._lock:
                self._loop = self._task = None

    async def _step(self, step: LoadStep) -> MemberCounts:
        """A step that cannot be done counts as failed, as one of Fluid's Jobs does in the end."""
        for pause in PAUSES:
            try:
                return await self._attempt(step)
            except FluidpyError as error:
                message = error.message
                await asyncio.sleep(pause)
        return MemberCounts(files=1, failed=1, failures=((" ".join(step.paths), message),))

    async def _attempt(self, step: LoadStep) -> MemberCounts:
        commands = self._driver.load_with(self._plan, step.paths, dict(step.options))
        outputs = [await run_command(command) for command in commands]
        return counts_of(self._driver.loaded(self._plan, outputs))


def counts_of(outcome: LoadOutcome) -> MemberCounts:
    """What an engine says of a load, as workers say it; files count as done by their bytes."""
    whole = outcome.cached_bytes >= outcome.bytes
    share = 1.0 if whole else outcome.cached_bytes / outcome.bytes
    done = outcome.files if whole else min(outcome.files - 1, int(outcome.files * share))
    return MemberCounts(
        files=outcome.files,
        bytes=outcome.bytes,
        done_files=max(0, done),
        done_bytes=outcome.cached_bytes,
    )


def _given_up() -> ControlPlaneError:
    return ControlPlaneError("the load was given up", cure="Apply the DataLoad again.")
