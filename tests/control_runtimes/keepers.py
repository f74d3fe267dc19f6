"""Keepers of runtimes for tests: a driver that wants what a test says, and waiting for states."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fluidpy.control.runtime_keeper import Assignment, place_of
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import (
    Command,
    Desired,
    RuntimePlace,
    RuntimeRequest,
    RuntimeState,
    Seen,
    Teardown,
)

KEY = "default/data"


class ToldDriver:
    """Wants what it is told; ready when its processes are."""

    def __init__(self, desired: Desired, teardown: Callable[[], Teardown] = Teardown) -> None:
        self._desired, self._teardown = desired, teardown

    def prepare(self, request: RuntimeRequest) -> None:
        """Nothing to settle."""

    def desired(self, plan: Any) -> Desired:
        return self._desired

    def observe(self, plan: Any, seen: Seen) -> RuntimeState:
        return RuntimeState(all(one.ready for one in seen.processes.values()))

    def mount(self, plan: Any) -> tuple[MountDefinition, ...]:
        return ()

    def scale(self, plan: Any, replicas: int) -> Any:
        return plan

    def load(self, plan: Any, paths: Sequence[str]) -> tuple[Command, ...]:
        return ()

    def teardown(self, plan: Any) -> Teardown:
        return self._teardown()


def place(root: Path) -> RuntimePlace:
    """Where the runtime of `KEY` lies below a test's directory."""
    return place_of(root / "run", root / "state", KEY)


def assignment(root: Path, desired: Desired, **more: Any) -> Assignment:
    """A runtime of `KEY` that wants this."""
    return Assignment(ToldDriver(desired, **more), None, place(root))


async def until(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Until it is true. Fails once the time is up."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        await asyncio.sleep(0.02)
