"""Loads: everything that matches, once, with what failed said by name."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import SourceError, WorkerTimeoutError
from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy, fault_proxy
from fluidpy.worker.load import LoadCounts
from tests.worker.conftest import Machine, MakeMachine


@pytest.fixture
def proxy(machine: Machine) -> Iterator[FaultProxy]:
    with fault_proxy(machine.server.endpoint) as made:
        yield made


def test_a_load_brings_what_matches_and_nothing_twice(machine: Machine) -> None:
    files = {f"a/{n}.tar": os.urandom(10_000 + n) for n in range(40)}
    files |= {f"b/{n}.txt": b"text" for n in range(5)}
    files["large"] = os.urandom(3_000_000)
    files["a/empty.tar"] = b""
    for path, data in files.items():
        machine.write(path, data)
    session = machine.session()
    ok = machine.ask(session, "load", paths=["a/*.tar", "b/3.txt", "/a"])
    size = sum(len(data) for path, data in files.items() if path.startswith("a/")) + 4
    assert (ok["files"], ok["done_files"], ok["failed"]) == (42, 42, 0)
    assert (ok["bytes"], ok["done_bytes"]) == (size, size)
    assert machine.ask(session, "load", paths=[])["done_files"] == len(files)
    for path, data in files.items():
        assert session.read(path) == data
    counters = machine.ask(session, "status")["counters"]
    assert counters["bytes_from_source"] == sum(map(len, files.values()))


def test_a_load_says_by_name_what_it_could_not_read(machine: Machine, proxy: FaultProxy) -> None:
    for number in range(5):
        machine.write(f"f{number}", os.urandom(1000))
    proxy.add(Fault(path="*/f3", status=403, times=0))
    session = machine.session(machine.definition(source=machine.source(proxy.endpoint)))
    ok = machine.ask(session, "load", paths=["/", "nope"])
    assert (ok["done_files"], ok["failed"]) == (4, 2)
    failures: dict[str, str] = dict(ok["failures"])
    assert set(failures) == {"f3", "nope"}
    assert "f3" in failures["f3"]
    assert proxy.count("*/f1") == 1
    proxy.clear()
    assert machine.ask(session, "load", paths=["/"])["done_files"] == 5
    assert (proxy.count("*/f1"), proxy.count("*/f3")) == (0, 1)


def test_a_load_larger_than_the_cache_is_not_called_complete(machine: Machine) -> None:
    tier = TierDefinition(str(machine.directory / "tier"), 2_000_000)
    for number in range(40):
        machine.write(f"{number}", os.urandom(100_000))
    session = machine.session(machine.definition(tiers=(tier,)))
    ok = machine.ask(session, "load", paths=["/"])
    assert ok["failed"] > 0
    assert ok["done_files"] + ok["failed"] == ok["files"] == 40
    assert machine.ask(session, "usage")["tiers"][0]["used_bytes"] <= 2_000_000


def test_why_many_files_failed_alike_is_said_once() -> None:
    counts = LoadCounts()
    counts.fail("/", "7 files left the cache again", 7)
    counts.fail("a", "the source refused it")
    assert counts.failed == 8
    assert [path for path, _ in counts.failures] == ["/", "a"]


def test_a_load_reports_progress_and_ends_with_its_client(
    machine: Machine, proxy: FaultProxy
) -> None:
    for number in range(200):
        machine.write(f"{number}", os.urandom(1000))
    proxy.latency_seconds = 0.1
    proxy.add(Fault(path="*/199", stall_after=0, times=0))  # so that it cannot end by itself
    definition = machine.definition(source=machine.source(proxy.endpoint))
    session, watcher = machine.session(definition), machine.session(definition)
    seen: list[dict[str, Any]] = []
    enough = threading.Event()

    def progress(message: dict[str, Any]) -> None:
        seen.append(message)
        if message["done_files"]:
            enough.set()

    def run() -> None:
        with pytest.raises(OSError, match="worker"):
            machine.ask(session, "load", paths=["/"], on_progress=progress)

    thread = threading.Thread(target=run)
    thread.start()
    assert enough.wait(60)
    session.connection.close()
    thread.join(60)
    assert seen[-1]["files"] == 200
    deadline = time.monotonic() + 60
    while machine.ask(watcher, "status")["bytes_under_way"]:
        assert time.monotonic() < deadline
    loaded = machine.ask(watcher, "status")["counters"]["loaded_files"]
    assert 0 < loaded < 200


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="*/f", status=500, times=1),
        Fault(path="*/f", status=503, times=1),
        Fault(path="*/f", close_after=1000, times=1),
        Fault(path="*/f", short_by=10, times=1),
    ],
    ids=["500", "503", "early close", "short body"],
)
def test_a_passing_fault_of_the_source_costs_time_only(
    machine: Machine, proxy: FaultProxy, fault: Fault
) -> None:
    data = os.urandom(500_000)
    machine.write("f", data)
    session = machine.session(machine.definition(source=machine.source(proxy.endpoint)))
    session.entry("f")
    proxy.add(fault)
    assert session.read("f") == data


def test_a_source_that_stalls_ends_at_the_deadline(machine: Machine, proxy: FaultProxy) -> None:
    machine.write("f", os.urandom(100_000))
    session = machine.session(machine.definition(source=machine.source(proxy.endpoint)))
    opened = session.open_object("f")
    proxy.add(Fault(path="*/f", stall_after=10, times=0))
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="did not answer in time"):
        machine.ask(session, "read", handle=opened.handle, start=0, end=10, deadline=0.5)
    assert time.monotonic() - begin < 30
    session.close_object(opened)


def test_metadata_past_its_deadline_is_the_workers_timeout(
    machine: Machine, proxy: FaultProxy
) -> None:
    machine.write("f", b"1")
    session = machine.session(machine.definition(source=machine.source(proxy.endpoint)))
    session.attachment()
    proxy.latency_seconds = 5.0
    with pytest.raises(WorkerTimeoutError, match="`resolve`"):
        machine.ask(session, "resolve", path="f", deadline=0.3)
    proxy.latency_seconds = 0.0


def test_an_unreachable_source_is_an_error_and_the_cache_still_serves(
    machine: Machine, proxy: FaultProxy
) -> None:
    data = os.urandom(10_000)
    machine.write("kept", data)
    machine.write("other", data)
    options = {"retries": "0"}
    session = machine.session(machine.definition(source=machine.source(proxy.endpoint, **options)))
    assert session.read("kept") == data
    proxy.add(Fault(status=500, times=0))
    assert session.read("kept") == data
    with pytest.raises(SourceError, match="other"):
        session.read("other")


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_passed_through(machine: Machine, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        data = os.urandom(4_000_000)
        machine.write("f", data)
        tier = TierDefinition(str(small / "tier"), 1 << 30, medium="MEM")
        session = machine.session(machine.definition(tiers=(tier,)))
        assert session.read("f") == data
        assert session.read("f", 3_000_000, 3_999_999) == data[3_000_000:3_999_999]
        counters = machine.ask(session, "status")["counters"]
        assert counters["bytes_not_kept"] > 0
        assert counters["errors"].get("CacheFullError", 0) > 0
        ok = machine.ask(session, "load", paths=["f"])
        assert (ok["done_files"], ok["failed"]) == (0, 1)
        assert "no room" in ok["failures"][0][1]
    finally:
        machine.close()
        subprocess.run(["umount", small], check=True)


def test_readers_wait_for_what_a_load_is_fetching(machine: Machine, proxy: FaultProxy) -> None:
    files = {f"{number}": os.urandom(10_000 + number) for number in range(30)}
    for path, data in files.items():
        machine.write(path, data)
    definition = machine.definition(source=machine.source(proxy.endpoint))
    session, reader = machine.session(definition), machine.session(definition)
    machine.ask(session, "load", paths=["/"], metadata_only=True)
    proxy.latency_seconds = 0.3
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: answers.append(machine.ask(session, "load", paths=["/"]))
    )
    thread.start()
    deadline = time.monotonic() + 60
    while not proxy.count("*"):
        assert time.monotonic() < deadline
    for path, data in files.items():
        assert reader.read(path) == data
    thread.join(60)
    assert answers[0]["done_files"] == len(files)
    assert [proxy.count(f"*/{path}") for path in files] == [1] * len(files)


def test_a_load_goes_on_past_a_source_that_stalls(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine(source_deadline_seconds=3.0)
    for number in range(20):
        machine.write(f"f{number}", os.urandom(1000))
    with fault_proxy(machine.server.endpoint) as proxy:
        proxy.add(Fault(path="*/f7", stall_after=10, times=0))
        session = machine.session(machine.definition(source=machine.source(proxy.endpoint)))
        ok = machine.ask(session, "load", paths=["/"])
    assert (ok["done_files"], ok["failed"]) == (19, 1)
    assert ok["failures"][0][0] == "f7"
