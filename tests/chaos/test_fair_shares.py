"""Readers of different files have fair shares, and a slow source is nobody else's trouble."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy, fault_proxy
from fluidpy.testing.servers.object_server import ObjectServer, object_server
from tests.chaos.bed import ROOT
from tests.chaos.read_modes import every_mode, options_of
from tests.model.place import KIB, Place, new_place, until

READERS = 64
PARKED = 200
QUICK_SECONDS = 1.0
"""99 % of reads that the slow source has no part in take less, also on a busy machine, and but for
its stalls; the slow source answers nothing at all meanwhile."""
FAIR = 3.0
"""At most so many times as much for the first as for the last of all readers."""


def start(kind: str, seconds: float, top: Path, files: Sequence[str]) -> subprocess.Popen[str]:
    words = [kind, str(seconds), os.fspath(top), *files]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.parallel_reader", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _error = process.communicate("", timeout=100)
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Sources:
    """A fast source and a slow one, in one Dataset, mounted."""

    def __init__(self, server: ObjectServer, proxy: FaultProxy, place: Place) -> None:
        self.server, self.proxy, self.place = server, proxy, place
        for bucket in ("fast", "slow"):
            server.put(bucket, "0", bytes(4096))

    @property
    def top(self) -> Path:
        return self.place.mount_point

    def fill(self, bucket: str, names: Sequence[str], size: int) -> list[str]:
        for name in names:
            self.server.put(bucket, name, os.urandom(size))
        return [f"{bucket}/{name}" for name in names]

    def mount(self, **options: Any) -> None:
        mounts = []
        for bucket, endpoint in (("fast", self.server.endpoint), ("slow", self.proxy.endpoint)):
            keys = {"endpoint": endpoint, "region": "us-east-1", "allow_http": "true"}
            keys |= {"anonymous": "true", "path_style": "true"}
            source = MountSource(f"s3://{bucket}", bucket, keys)
            mounts.append(MountDefinition(bucket, f"/{bucket}", source))
        self.place.mount(DatasetDefinition("shares", "default", tuple(mounts)), **options)

    def run(self, kind: str, seconds: float, files: Sequence[str]) -> dict[str, Any]:
        return finish(start(kind, seconds, self.top, files))

    def system_calls_of_server(self) -> int:
        """Reads by system call that the mount's server has done; 0 where only root is told."""
        assert self.place.record is not None
        try:
            status = Path(f"/proc/{self.place.record.server_pid}/io").read_text()
        except PermissionError:
            return 0
        return int(status.partition("syscr: ")[2].split()[0])

    def warm(self, files: Sequence[str]) -> None:
        for file in files:
            (self.top / file).read_bytes()


@pytest.fixture
def sources() -> Iterator[Sources]:
    with (
        object_server() as server,
        fault_proxy(server.endpoint) as proxy,
        new_place(source_deadline_seconds=60.0) as place,
    ):
        yield Sources(server, proxy, place)


@every_mode(quick="no-open")
def test_64_readers_of_cached_files_have_fair_shares(sources: Sources, read_mode: str) -> None:
    files = sources.fill("fast", [f"{n:02}" for n in range(READERS)], 1024 * KIB)
    sources.mount(**options_of(read_mode))
    sources.warm(files)
    before = sources.system_calls_of_server()
    counts = sources.run("shares", 2.0, files)["counts"]
    if before and read_mode != "passthrough":  # where the kernel shares out the disk by itself
        assert sources.system_calls_of_server() - before >= sum(counts)
    print(f"reads of 128 KiB: {min(counts)} to {max(counts)}, {sum(counts)} in all")
    assert min(counts) > 0
    assert max(counts) / min(counts) < FAIR, sorted(counts)


def test_64_readers_of_files_at_the_source_have_fair_shares(sources: Sources) -> None:
    sources.proxy.latency_seconds = 0.01
    files = sources.fill("slow", [f"{n:02}" for n in range(READERS)], 512 * KIB)
    sources.mount()
    report = sources.run("whole", 0, files)
    seconds = report["seconds"]
    print(f"512 KiB each: {min(seconds):.2f} to {max(seconds):.2f} s")
    stall = report["stall"]
    assert max(seconds) < 2 * FAIR * min(seconds) + 4 * stall, (sorted(seconds), stall)


@contextmanager
def parked(sources: Sources, files: Sequence[str]) -> Iterator[None]:
    """Reads of the slow source are under way, all of them, while the block lasts."""
    process = start("parked", 40.0, sources.top, files)
    assert process.stdout is not None
    try:
        assert int(process.stdout.readline()) == len(files)
        yield
        report = finish(process)
        assert report["parked"] == len(files), "the slow reads were over too soon"
        assert not report["failures"], report
    finally:
        process.kill()
        process.communicate()


@every_mode(quick="no-open")
def test_a_slow_source_delays_no_reader_of_anything_else(sources: Sources, read_mode: str) -> None:
    slow = sources.fill("slow", [f"{n:03}" for n in range(PARKED)], 4096)
    cached = sources.fill("fast", [f"cached{n}" for n in range(20)], 100 * KIB)
    cold = sources.fill("fast", [f"cold{n:03}" for n in range(240)], 20 * KIB)
    sources.mount(**options_of(read_mode))
    os.listdir(sources.top / "slow")
    sources.warm(cached)
    before = sources.run("paced", 0, cold[:80])
    go_on = threading.Event()

    def wait() -> None:
        go_on.wait()

    sources.proxy.add(Fault(path="/slow/*", times=0, before=wait))
    try:
        with parked(sources, slow):
            assert until(lambda: sources.proxy.count("/slow/*") > 0)
            kept = sources.run("paced", 1.0, cached)
            fetched = sources.run("paced", 0, cold[80:])
    finally:
        go_on.set()
    figures = {
        name: (percentile(report["seconds"], 0.5), percentile(report["seconds"], 0.99))
        for name, report in (("cached", kept), ("cold", fetched), ("cold before", before))
    }
    text = ", ".join(f"{k}: {m * 1e3:.1f} / {p * 1e3:.1f} ms" for k, (m, p) in figures.items())
    print(f"{PARKED} reads parked; median / 99 %: {text}; stalls {kept['stall']:.3f} s")
    assert figures["cached"][1] < QUICK_SECONDS + 2 * kept["stall"], text
    usual = figures["cold before"][1] + before["stall"]
    assert figures["cold"][1] < QUICK_SECONDS + 2 * usual + 2 * fetched["stall"], text
