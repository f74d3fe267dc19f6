"""A control plane ends when it is told to, whatever else happens at that moment."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from fluidpy.control.control_plane import ControlPlane
from fluidpy.settings import Settings


@pytest.mark.parametrize("between", range(6))
async def test_a_change_at_the_moment_of_the_end_does_not_hold_it_up(
    tmp_path: Path, between: int
) -> None:
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime:
        settings = Settings(
            cache_dir=tmp_path / "cache", runtime_dir=Path(runtime), state_dir=tmp_path / "state"
        )
        control_plane = ControlPlane(settings)
        await control_plane.start()
        running = asyncio.create_task(control_plane.run())
        await asyncio.sleep(0)
        control_plane.wake()
        for _ in range(between):
            await asyncio.sleep(0)
        control_plane.end("the test asks for it")
        done, _ = await asyncio.wait({running}, timeout=30)
        assert running in done
