from __future__ import annotations

import asyncio
import signal

import pytest

from fluidpy.control import process_end


async def sleeping() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)


async def test_a_killed_process_is_waited_for() -> None:
    process = await sleeping()
    await process_end.kill_group(process)
    assert process.returncode == -signal.SIGKILL
    await process_end.kill_group(process)  # it is gone already


async def test_a_killed_process_that_the_kernel_holds_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = await sleeping()
    ended = process.wait
    monkeypatch.setattr(process, "wait", asyncio.Event().wait)
    monkeypatch.setattr(process_end, "KILL_SECONDS", 0.01)
    await process_end.kill_group(process)
    assert f"process {process.pid} waits in the kernel" in caplog.text
    assert await ended() == -signal.SIGKILL
