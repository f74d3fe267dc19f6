"""How a control plane and its workers begin and end, whatever else happens at that moment."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.session import DatasetSession
from fluidpy.cluster.membership import Member, Membership, write_membership
from fluidpy.control import control_plane as control_planes
from fluidpy.control import pool_worker
from fluidpy.control.control_plane import ControlPlane
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.pool_worker import PoolWorker
from fluidpy.control.worker_pool import WorkerPool
from fluidpy.errors import ControlPlaneError
from fluidpy.settings import Settings
from fluidpy.testing.servers.object_server import object_server
from tests.control.conftest import dataset
from tests.control_runtimes.keepers import until
from tests.worker.conftest import Machine


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime:
        yield Settings(
            cache_dir=tmp_path / "cache", runtime_dir=Path(runtime), state_dir=tmp_path / "state"
        )


@pytest.mark.parametrize("between", range(6))
async def test_a_change_at_the_moment_of_the_end_does_not_hold_it_up(
    settings: Settings, between: int
) -> None:
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


async def test_a_first_step_that_fails_does_not_keep_it_from_serving(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    control_plane = ControlPlane(settings)

    def fail() -> None:
        raise OSError("a mount is dead")

    monkeypatch.setattr(control_plane.migrates, "look", fail)
    await control_plane.start()
    running = asyncio.create_task(control_plane.run())
    assert settings.control_socket.exists()
    assert "a mount is dead" in caplog.text
    control_plane.end("the test asks for it")
    await running


async def test_steps_go_on_when_mounts_cannot_be_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_planes, "STEP_SECONDS", 0.01)
    control_plane = ControlPlane(settings)
    await control_plane.start()
    looks = 0
    enough = asyncio.Event()

    def fail() -> None:
        nonlocal looks
        looks += 1
        raise KeyError("a record of a mount is broken")

    def step() -> None:
        if looks >= 3:
            enough.set()

    monkeypatch.setattr(control_plane.mounts, "look", fail)
    monkeypatch.setattr(control_plane, "_step", step)
    running = asyncio.create_task(control_plane.run())
    async with asyncio.timeout(60):
        await enough.wait()
    control_plane.end("the test asks for it")
    await running


async def test_a_worker_whose_directory_cannot_be_made_says_so_and_can_be_stopped(
    settings: Settings,
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "workers").write_text("no directory")
    changed = asyncio.Event()
    with ThreadPoolExecutor(2) as threads:
        worker = PoolWorker(
            "worker-0", "127.0.0.1:1", settings, tmp_path / "membership", threads, changed.set
        )
        async with asyncio.timeout(60):
            await changed.wait()
        assert worker.state == "Failed"
        assert "Not a directory" in worker.failure
        await worker.stop()


class FewThreads(ThreadPoolExecutor):
    """Threads of a process that may have no more of them, for a while."""

    exhausted = True

    def submit(self, *arguments: Any, **more: Any) -> Any:
        if self.exhausted:
            raise RuntimeError("can't start new thread")
        return super().submit(*arguments, **more)


async def test_a_worker_is_looked_after_again_once_there_are_threads(
    settings: Settings, tmp_path: Path
) -> None:
    with FewThreads(2) as threads:
        tried_again = asyncio.Event()

        def changed() -> None:
            if worker.failures >= 2:
                tried_again.set()

        worker = PoolWorker(
            "worker-0", "127.0.0.1:1", settings, tmp_path / "membership", threads, changed
        )
        async with asyncio.timeout(60):
            await tried_again.wait()
        assert worker.state == "Failed"
        assert "can't start new thread" in worker.failure
        threads.exhausted = False
        await worker.stop()


async def test_a_worker_that_runs_keeps_its_port_while_there_are_no_threads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_worker, "PAUSES", (0.0, 3600.0))
    first = WorkerPool(settings, lambda: None)
    first.carry_out(Membership(1, (Member("worker-0", "", "here", 1),), {}))
    await until(lambda: first.workers["worker-0"].is_ready)
    plan = first.membership
    await first.close(stop=False)
    pool = WorkerPool(settings, lambda: None)
    with FewThreads(2) as threads:
        pool._threads = threads
        pool.carry_out(plan)
        await until(lambda: pool.workers["worker-0"].failures == 2)
        pool.carry_out(plan)
        assert pool.membership == plan
        threads.exhausted = False
        await pool.close(stop=True)


async def test_a_worker_that_was_written_out_and_not_ended_is_stopped_by_the_next(
    settings: Settings,
) -> None:
    both = tuple(Member(f"worker-{number}", "", "here", 1) for number in range(2))
    killed = WorkerPool(settings, lambda: None)
    killed.carry_out(Membership(1, both, {}))
    await until(lambda: all(worker.is_ready for worker in killed.workers.values()))
    pids = {name: worker.pid for name, worker in killed.workers.items()}
    await killed.close(stop=False)
    plan = replace(killed.membership, generation=2, members=killed.membership.members[:1])
    write_membership(settings.state_dir / "pool" / "membership.json", plan)
    pool = WorkerPool(settings, lambda: None)
    pool.carry_out(plan)
    await until(lambda: not Path(f"/proc/{pids['worker-1']}").exists())
    await until(lambda: pool.workers["worker-0"].is_ready)
    assert {name: worker.pid for name, worker in pool.workers.items()} == {
        "worker-0": pids["worker-0"]
    }
    await pool.close(stop=True)


async def test_what_an_earlier_control_plane_attached_is_evicted_when_it_is_deleted(
    tmp_path: Path,
) -> None:
    with (
        object_server() as server,
        tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime,
    ):
        machine = Machine(tmp_path, Path(runtime), server, "b")
        machine.write("file", bytes(100_000))
        definition = machine.definition()
        settings = Settings(
            cache_dir=tmp_path / "cache", runtime_dir=Path(runtime), state_dir=tmp_path / "state"
        )
        plan = Membership(1, (Member("worker-0", "", "here", 1),), {})
        first, pool = (WorkerPool(settings, lambda: None) for _ in range(2))
        first.carry_out(plan)
        worker = first.workers["worker-0"]
        worker.want({definition.key: definition}, set())
        await until(lambda: worker.serves(definition))
        session = DatasetSession(definition, worker.settings)
        assert await asyncio.to_thread(session.read, "file") == bytes(100_000)
        await until(lambda: _kept_bytes(worker) > 0)
        await first.close(stop=False)
        pool.carry_out(first.membership)
        pool.workers["worker-0"].want({}, {definition.key})
        await until(lambda: pool.workers["worker-0"].is_ready)
        await until(lambda: _kept_bytes(pool.workers["worker-0"]) == 0)
        session.close()
        session.connection.close()
        await pool.close(stop=True)


def _kept_bytes(worker: PoolWorker) -> int:
    return sum(int(tier["kept_bytes"]) for tier in (worker.status or {}).get("tiers", ()))


async def test_a_status_that_could_not_be_written_is_written_later_and_holds_up_no_other(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    control_plane = ControlPlane(settings)
    store, set_status = control_plane.store, control_plane.store.set_status
    full = True

    def fails(key: ObjectKey, status: Mapping[str, object]) -> dict[str, Any]:
        if full and key == keys[0]:
            raise ControlPlaneError("the disk is full", cure="Free space.")
        return set_status(key, status)

    monkeypatch.setattr(store, "set_status", fails)
    keys = [ObjectKey("datasets", "default", name) for name in ("a", "b")]
    for key in keys:
        source = {"mountPoint": f"local://{tmp_path}/none", "name": "m"}
        store.create(key, {**dataset(key.name, ""), "spec": {"mounts": [source]}})
    await control_plane.start()
    running = asyncio.create_task(control_plane.run())
    assert "status" in store.get(keys[1])
    assert "status" not in store.get(keys[0])
    assert "the status of the Dataset default/a is not noted: the disk is full" in caplog.text
    full = False
    control_plane.wake()
    await until(lambda: "status" in store.get(keys[0]))
    await control_plane.stop(force=True)
    await running
