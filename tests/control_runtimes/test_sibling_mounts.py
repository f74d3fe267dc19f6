"""Several mounts of one Dataset: what goes wrong with one is nothing to the others."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fluidpy.api.dataset import Dataset
from fluidpy.control import linux_processes as linux
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.runtime_keeper import Assignment, RuntimeKeeper, directory_of
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import RuntimeRequest
from fluidpy.runtime.manifest import Manifest
from fluidpy.runtime.mount_driver import MountDriver
from fluidpy.storage.under_storage import MountSource
from tests.control_runtimes.keepers import KEY, place, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting without FUSE needs root")

CLIENT = """
if [ "$0" != good ]; then echo no route to $0; exit 3; fi
mount -t tmpfs client "$1"
exec sleep 1000
"""
MOUNT = {"command": ["/bin/sh", "-c", CLIENT, "{source}", "{target}"], "filesystemType": "tmpfs"}


def wanted(root: Path, *sources: str) -> Assignment:
    """Mounts of these names, of which those called `good` mount."""
    values: dict[str, Any] = {"kind": "mount", "name": "nas", "version": "1", "mount": MOUNT}
    values["apiVersion"] = "runtime.fluidpy.io/v1"
    driver = MountDriver(Manifest.model_validate(values, by_alias=True), root)
    mounts = tuple(
        MountDefinition(name, f"/{name}", MountSource(f"nas://{source}", name))
        for name, source in (one.split("=") for one in sources)
    )
    spec = {"mounts": [{"mountPoint": one.source.url, "name": one.name} for one in mounts]}
    dataset = Dataset.model_validate({"metadata": {"name": "data"}, "spec": spec})
    plan = driver.prepare(RuntimeRequest(dataset, mounts, place(root)))
    return Assignment(driver, plan, place(root))


class Bed:
    """A keeper, and what it has mounted."""

    def __init__(self, root: Path, threads: ThreadPoolExecutor) -> None:
        self.root = root
        self.directory = directory_of(root / "run", KEY)
        self.keeper = RuntimeKeeper(KEY, self.directory, threads, lambda: None)

    def process(self, name: str) -> KeptProcess:
        return KeptProcess(self.directory / "processes" / f"nas-of-{name}")

    def targets(self) -> list[str]:
        mounts = (one.mount_point for one in linux.mount_table())
        return sorted(
            one.removeprefix(f"{self.directory}/") for one in mounts if str(self.root) in one
        )


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    with ThreadPoolExecutor() as threads:
        bed = Bed(tmp_path, threads)
        yield bed
        await bed.keeper.end(teardown=True)
    assert bed.targets() == []


async def test_a_mount_that_fails_leaves_its_sibling_mounted(bed: Bed) -> None:
    bed.keeper.want(wanted(bed.root, "a=good", "b=bad"))
    bad, good = bed.process("b"), bed.process("a")
    await until(lambda: good.seen().ready)
    before = bad.seen().restarts
    await until(lambda: bad.seen().restarts >= before + 2)
    assert 'it said last: "no route to bad"' in bad.seen().failure
    assert good.seen().ready
    assert good.seen().restarts == 0
    assert bed.targets() == ["mount/0/fuse"]


async def test_a_mount_that_is_taken_away_leaves_its_siblings_mounted(bed: Bed) -> None:
    first = wanted(bed.root, "a=good", "b=good", "c=good")
    bed.keeper.want(first)
    await until(lambda: bed.keeper.state.ready)
    bed.keeper.want(replace(first, plan=replace(first.plan, clients=first.plan.clients[:2])))
    await until(lambda: bed.targets() == ["mount/0/fuse", "mount/1/fuse"])
    await until(lambda: bed.keeper.state.ready)
    assert [bed.process(name).seen().restarts for name in "ab"] == [0, 0]


async def test_mounts_that_change_places_do_not_end_one_another(bed: Bed) -> None:
    bed.keeper.want(wanted(bed.root, "a=good", "b=good"))
    await until(lambda: bed.keeper.state.ready)
    bed.keeper.want(wanted(bed.root, "b=good", "c=good", "a=good"))
    await until(lambda: len(bed.targets()) == 3 and bed.keeper.state.ready)
    assert [bed.process(name).seen().restarts for name in "abc"] == [0, 0, 0]
