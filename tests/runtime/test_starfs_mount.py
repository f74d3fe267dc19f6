"""`runtimes/starfs-mount` on a real distributed store: MooseFS, with and without a chunkserver."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.api.dataset import Dataset
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.linux_processes import mount_table, unmount_below
from fluidpy.control.runtime_keeper import order_of, write_files
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import RuntimePlace, RuntimeRequest
from fluidpy.runtime.manifest import load_manifest
from fluidpy.runtime.mount_driver import MountDriver
from fluidpy.settings import load_settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.moosefs import ADDRESS, MooseServer, moosefs, moosefs_missing
from tests.runtime.test_mount_plugins import RUNTIMES

ABSENT = moosefs_missing()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(ABSENT), reason=ABSENT),
]

CONTENT = bytes(range(256)) * 4096


def started(directory: Path, store: MooseServer) -> tuple[KeptProcess, MountSource]:
    """The plug-in's client in the store's network, and what the worker reads."""
    manifest = load_manifest(RUNTIMES / "starfs-mount")
    assert manifest.mount is not None
    manifest.mount.command[:0] = store.enter
    url = "starfs://cluster/scans"
    options = {"master": ADDRESS, "folder": "/scans"}
    mount = {"mountPoint": url, "name": "scans", "options": options}
    dataset = Dataset.model_validate({"metadata": {"name": "scans"}, "spec": {"mounts": [mount]}})
    place = RuntimePlace(directory / "work", directory / "mount" / "fuse", directory / "cache")
    asked = MountDefinition("scans", "/scans", MountSource(url, "scans", options))
    driver = MountDriver(manifest, RUNTIMES / "starfs-mount")
    plan = driver.prepare(RuntimeRequest(dataset, (asked,), place))
    write_files(plan.clients[0].process.command.files)
    process = KeptProcess(directory / "process")
    process.begin(order_of(plan.clients[0].process))
    return process, driver.mount(plan)[0].source


async def read(source: MountSource, seconds: float) -> bytes:
    """The file, once the store answers."""
    options = {**source.options, "retries": "0", "deadline_seconds": str(seconds)}
    storage = open_storage(replace(source, options=options), load_settings())
    try:
        info = await storage.stat("a/1.bin")
        return bytes(await storage.read("a/1.bin", 0, info.size, info.version))
    finally:
        await storage.close()


def test_what_the_store_holds_is_read_also_after_its_chunkserver_was_away(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with moosefs(tmp_path / "store") as store:
        with store.mounted(tmp_path / "outside") as outside:
            (outside / "scans" / "a").mkdir(parents=True)
            (outside / "scans" / "a" / "1.bin").write_bytes(CONTENT)
        process, source = started(tmp_path, store)
        try:
            limit = time.monotonic() + 60
            while not process.seen().ready:
                assert not process.seen().failure, process.seen().failure
                assert time.monotonic() < limit, process.state()
                time.sleep(0.05)
            assert asyncio.run(read(source, 20)) == CONTENT
            store.kill_chunkserver()
            with ThreadPoolExecutor(1) as readers:
                waiting = readers.submit(lambda: asyncio.run(read(source, 90)))
                store.start_chunkserver()
                assert waiting.result(90) == CONTENT
        finally:
            process.end()
            left = [one for one in mount_table() if one.mount_point.startswith(f"{tmp_path}/")]
            unmount_below(str(tmp_path))
        assert left == []
