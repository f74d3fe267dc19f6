"""Runtimes that do not end at once: they are tried again, and may be wanted again meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from fluidpy.control import runtime_executor
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.runtime_executor import RuntimeExecutor
from fluidpy.control.runtime_keeper import Assignment, directory_of
from fluidpy.errors import ControlPlaneError
from fluidpy.runtime.driver import Command, Desired, LongRunning, Teardown
from fluidpy.settings import Settings
from tests.control_runtimes.keepers import KEY, assignment, until

DESIRED = Desired(processes=(LongRunning(Command("a sleeper", ("/bin/sleep", "1000"))),))


class Bed:
    """An executor that is told what is wanted at each change, as the control plane's steps do."""

    def __init__(self, root: Path) -> None:
        self.failures: list[Exception] = []
        """What teardown raises, from the last one on; nothing once it is empty."""
        self.tried: list[float] = []
        self.wanted: Mapping[str, Assignment] = {}
        self.assignment = assignment(root, DESIRED, teardown=self._teardown)
        self._changed = asyncio.Event()
        self.process = KeptProcess(directory_of(root / "run", KEY) / "processes" / "a-sleeper")
        settings = Settings(root / "cache", root / "run", root / "state")
        self.executor = RuntimeExecutor(settings, self._changed.set)
        self.steps = asyncio.get_running_loop().create_task(self._step_on())

    async def _step_on(self) -> None:
        while True:
            self._changed.clear()
            self.executor.want(self.wanted)
            await self._changed.wait()

    def want(self, *, there: bool) -> None:
        self.wanted = {KEY: self.assignment} if there else {}
        self._changed.set()

    async def ready(self) -> None:
        self.want(there=True)
        await until(self.is_ready)

    def is_ready(self) -> bool:
        state = self.executor.state(KEY)
        return state is not None and state.ready

    def _teardown(self) -> Teardown:
        self.tried.append(time.monotonic())
        if self.failures:
            raise self.failures.pop()
        return Teardown()


@pytest.fixture
async def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    monkeypatch.setattr(runtime_executor, "PAUSES", (0.2, 0.5))
    bed = Bed(tmp_path)
    yield bed
    bed.steps.cancel()
    await bed.executor.close(stop=True)
    assert not list(tmp_path.glob("run/runtimes/*/*/processes/*"))


async def test_what_does_not_end_is_tried_again_after_growing_pauses(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    await bed.ready()
    bed.failures = [ControlPlaneError("the store is busy", cure="Wait.") for _ in range(2)]
    bed.want(there=False)
    await until(lambda: not bed.executor.is_there(KEY))
    first, second, third = bed.tried
    assert second - first >= 0.2
    assert third - second >= 0.5
    said = [one.getMessage() for one in caplog.records if "does not end" in one.getMessage()]
    assert len(said) == 2
    assert "does not end, and is tried again in 0.2 s: the store is busy" in said[0]


async def test_what_did_not_end_runs_once_it_is_wanted_again(bed: Bed) -> None:
    await bed.ready()
    bed.failures = [OSError("busy") for _ in range(1000)]
    bed.want(there=False)
    await until(lambda: bed.tried)
    assert not bed.is_ready()
    await bed.ready()
    assert bed.process.seen().ready
    bed.failures = []
    bed.want(there=False)
    await until(lambda: not bed.executor.is_there(KEY))


async def test_a_driver_that_fails_at_the_end_is_logged_and_tried_again(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    await bed.ready()
    bed.failures = [KeyError("volume")]
    bed.want(there=False)
    await until(lambda: bed.tried)
    await until(lambda: "tried again" in caplog.text)
    assert "KeyError('volume')" in caplog.text
    assert "Traceback" in caplog.text
    assert bed.executor.is_there(KEY)
    await until(lambda: not bed.executor.is_there(KEY))
