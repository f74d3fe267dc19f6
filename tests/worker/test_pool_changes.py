"""A worker hears of another membership: it lives on, and its loop stays free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fluidpy.cluster.membership import Member, Membership
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings
from fluidpy.worker import stores
from fluidpy.worker.worker import Worker


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    runtime = tmp_path / "r"
    runtime.mkdir()
    place = tmp_path / "workers" / "worker-0"
    worker = Worker(
        Settings(place, runtime, member_name="worker-0", membership_file=tmp_path / "m.json")
    )
    await worker.start()
    yield worker
    await worker._close()


def members(generation: int, count: int) -> Membership:
    all_ = (Member(f"worker-{n}", f"127.0.0.1:{20000 + n}", "here", 1 << 30) for n in range(count))
    return Membership(generation, tuple(all_), {})


async def until(what: Callable[[], bool]) -> None:
    """Threads tell no event of this loop."""
    limit = time.monotonic() + 60
    while not what():
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)


async def test_a_listener_that_fails_keeps_no_other_from_hearing(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Membership) -> None:
        raise RuntimeError("cannot follow")

    assert worker.pool is not None
    heard: list[int] = []
    worker.pool.on_change.insert(0, fail)
    worker.pool.on_change.append(lambda one: heard.append(one.generation))
    worker.pool.use(members(1, 1))
    assert heard == [1]
    assert "cannot follow" in caplog.text


async def test_the_loop_is_free_while_the_files_of_indexes_are_summed_up(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    sums: list[Path] = []

    def summed(index: Path) -> int:
        sums.append(index)
        assert free.wait(60), "the loop waits for this thread"
        return 0

    monkeypatch.setattr(stores, "indexed_bytes", summed)
    user = object()
    opening = asyncio.create_task(
        worker.datasets.attach(DatasetDefinition("a", "default", ()), user)
    )
    await until(lambda: bool(sums))
    free.set()
    store = (await opening).store
    sums.clear()
    await worker.datasets.attach(DatasetDefinition("b", "default", ()), user)
    assert not sums, "the store is open: nothing has to be known"

    free.clear()
    before = store.usage()[0].quota_bytes
    assert worker.pool is not None
    worker.pool.use(members(1, 4))
    await asyncio.sleep(0)
    assert store.usage()[0].quota_bytes == before
    free.set()
    await until(lambda: store.usage()[0].quota_bytes <= before / 2)
