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
from fluidpy.control.runtime_keeper import Assignment, directory_of, remove_unmounted
from fluidpy.errors import ControlPlaneError
from fluidpy.runtime.driver import Command, Desired, LongRunning, Teardown
from fluidpy.settings import Settings
from tests.control_runtimes.keepers import KEY, assignment, until

DESIRED = Desired(
    processes=(LongRunning(Command("a sleeper", ("/bin/sleep", "1000")), stop_seconds=70.0),)
)


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
        self._settings = Settings(root / "cache", root / "run", root / "state")
        self.executor = RuntimeExecutor(self._settings, self._changed.set)
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

    async def start_again(self) -> None:
        """Another control plane comes, which knows nothing of what was wanted."""
        self.steps.cancel()
        await self.executor.close(stop=False)
        self.wanted = {}
        self.executor = RuntimeExecutor(self._settings, self._changed.set)

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


@pytest.mark.parametrize("runs", [True, False])
async def test_what_was_deleted_is_torn_down_by_the_next_control_plane(
    bed: Bed, runs: bool
) -> None:
    await bed.ready()
    cache = bed.assignment.place.cache
    cache.mkdir(parents=True)
    (cache / "block").write_text("cached")
    await bed.start_again()
    if not runs:  # the machine was started again, too
        bed.process.end()
        remove_unmounted(directory_of(bed.executor._settings.runtime_dir, KEY))
    bed.executor.want({}, deleted={KEY: bed.assignment})
    await until(lambda: not bed.executor.is_there(KEY))
    assert bed.tried, "the driver was asked what it wants done"
    assert not cache.exists()


async def test_what_cannot_be_resolved_any_more_leaves_no_cache(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    await bed.ready()
    bed.assignment.place.cache.mkdir(parents=True)
    await bed.start_again()
    bed.executor.want({}, deleted={KEY: None})
    await until(lambda: not bed.executor.is_there(KEY))
    assert not bed.assignment.place.cache.exists()
    assert "its driver is not asked what is to be removed" in caplog.text


async def test_what_cannot_be_resolved_just_now_runs_on(bed: Bed) -> None:
    await bed.ready()
    supervisor = bed.process.supervisor_pid()
    assert supervisor is not None
    await bed.start_again()
    for _ in range(3):
        bed.executor.want({}, unknown={KEY})
        await asyncio.sleep(0)
    assert bed.executor.is_there(KEY)
    assert bed.process.supervisor_pid() == supervisor
    bed.executor.want({KEY: bed.assignment})
    await until(bed.is_ready)
    assert bed.process.supervisor_pid() == supervisor, "it goes on when it is known again"


async def test_it_is_told_why_something_does_not_end_and_how_long_an_end_may_take(
    bed: Bed,
) -> None:
    await bed.ready()
    assert bed.executor.stop_seconds == 70.0
    bed.steps.cancel()
    bed.executor.want({})
    assert bed.executor.stop_seconds == 70.0, "it has only begun to end"
    bed.executor.want({KEY: bed.assignment})
    bed.steps = asyncio.get_running_loop().create_task(bed._step_on())
    await bed.ready()
    bed.failures = [ControlPlaneError("the store is busy", cure="Wait.")]
    bed.want(there=False)
    await until(lambda: bed.executor.why_not_ended(KEY))
    assert "the store is busy" in bed.executor.why_not_ended(KEY)
    await until(lambda: not bed.executor.is_there(KEY))
    assert not bed.executor.why_not_ended(KEY)
