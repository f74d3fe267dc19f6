"""What drivers want to see of a runtime is read, also where a mount never answers.

A pipe without a writer stands for such a mount: who opens it waits.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from fluidpy.control import runtime_readings
from fluidpy.control.runtime_keeper import RuntimeKeeper, directory_of
from fluidpy.control.runtime_readings import RuntimeReadings
from fluidpy.runtime.driver import Command, Desired, Reading
from tests.control_runtimes.keepers import KEY, assignment, until


def is_read() -> bool:
    return any(one.name == "runtime-reading" for one in threading.enumerate())


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A file whose reader waits until the test is over."""
    path = tmp_path / "silent"
    os.mkfifo(path)
    yield path
    if is_read():
        with path.open("wb"):
            pass
    for one in threading.enumerate():
        if one.name == "runtime-reading":
            one.join(60)
            assert not one.is_alive()


async def test_a_runtime_whose_mount_never_answers_ends_all_the_same(
    tmp_path: Path, silent: Path
) -> None:
    desired = Desired(readings=(Reading("statistics", file=silent),))
    directory = directory_of(tmp_path / "run", KEY)
    with ThreadPoolExecutor() as threads:
        keeper = RuntimeKeeper(KEY, directory, threads, lambda: None)
        keeper.want(assignment(tmp_path, desired))
        await until(is_read)
        async with asyncio.timeout(60):
            await keeper.end(teardown=True)
    assert not directory.exists()


async def test_a_file_that_never_answers_hides_no_other_and_is_read_by_one_thread(
    tmp_path: Path, silent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    readings = RuntimeReadings("default/data", file_seconds=0.2)
    (tmp_path / "size").write_text("12 GiB")
    wanted = [Reading("silent", silent), Reading("size", tmp_path / "size", every_seconds=0.0)]
    async with asyncio.timeout(30):  # a thread of a busy machine may need longer than the 0.2 s
        while not readings.texts:
            await readings.read(wanted)
    assert readings.texts == {"size": "12 GiB"}
    assert f"silent of default/data cannot be read: {silent} was not read within 0.2" in caplog.text
    await readings.read([Reading("silent", silent, every_seconds=0.0)])
    assert "does not answer since it was read before" in caplog.text
    # The thread that read the other file ends a moment after its text was taken.
    await until(lambda: sum(one.name == "runtime-reading" for one in threading.enumerate()) == 1)


async def test_the_time_between_two_readings_begins_when_one_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, readings, begun = [0.0], RuntimeReadings("default/data"), []
    monkeypatch.setattr(runtime_readings, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def take_ten_seconds(command: Command) -> str:
        begun.append(now[0])
        now[0] += 10.0
        return "text"

    monkeypatch.setattr(runtime_readings, "run_command", take_ten_seconds)
    reading = Reading("slow", command=Command("a look", ("look",)), every_seconds=5.0)
    for moment in (0.0, 10.0, 14.9, 15.0):
        now[0] = max(now[0], moment)
        await readings.read([reading])
    assert begun == [0.0, 15.0]


def test_a_reading_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "silent")
    program = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from fluidpy.control.runtime_readings import RuntimeReadings
from fluidpy.runtime.driver import Reading
readings = RuntimeReadings("default/data", file_seconds=0.1)
asyncio.run(readings.read([Reading("silent", Path(sys.argv[1]))]))
"""
    arguments = [sys.executable, "-c", program, str(tmp_path / "silent")]
    subprocess.run(arguments, check=True, timeout=60)
