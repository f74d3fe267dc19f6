"""The worker as users meet it: a process that starts, serves, dies and ends."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fluidpy.cache.tier import TierDefinition
from fluidpy.client import protocol
from fluidpy.client.attachment import Opened
from fluidpy.client.file import ObjectReader
from fluidpy.client.protocol import Message
from fluidpy.client.start import worker_environment
from fluidpy.errors import (
    CacheDirectoryError,
    DatasetNotFoundError,
    IsADirectoryInDatasetError,
    PathNotFoundError,
    SourceChangedError,
    UsageError,
    ValidationError,
)
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.storage.under_storage import MountSource
from tests.worker.conftest import Machine, MakeMachine, await_end

BLOCK = 65536


def test_opening_the_root_says_that_it_is_a_folder(machine: Machine) -> None:
    machine.write("folder/f", b"x")
    session = machine.session()
    assert session.read("folder/f") == b"x"
    for path in ("", "/", "folder", "folder/"):
        with pytest.raises(IsADirectoryInDatasetError) as caught:
            session.open_object(path)
        assert "is a folder" in str(caught.value)


def test_bytes_are_right_cold_warm_and_by_another_client(machine: Machine) -> None:
    data = os.urandom(3_000_001)
    machine.write("a/b.bin", data)
    machine.write("a/empty", b"")
    session = machine.session()
    assert session.read("a/b.bin") == data
    assert session.read("a/b.bin", 100, 70_000) == data[100:70_000]
    assert session.read("a/empty") == b""
    other = machine.session()
    assert other.read("a/b.bin") == data
    counters = machine.ask(other, "status")["counters"]
    assert counters["bytes_from_source"] == len(data)


def test_a_complete_file_is_passed_read_only(machine: Machine) -> None:
    machine.write("f", b"x" * 1000)
    session = machine.session()
    session.read("f")
    opened = session.open_object("f")
    assert opened.complete
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(opened.fd, b"y", 0)
    session.close_object(opened)


def test_random_ranges_of_a_cold_file_are_right(machine: Machine) -> None:
    data = os.urandom(5_000_000)
    machine.write("f", data)
    session = machine.session()
    chance = random.Random(3)
    with ObjectReader(session, session.open_object("f")) as reader:
        for _ in range(100):
            start = chance.randrange(len(data))
            end = min(len(data), start + chance.randrange(1, 200_000))
            assert reader.read_range(start, end) == data[start:end]


def test_a_sequential_reader_of_a_cold_file_asks_seldom(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(40_000_003)
    machine.write("f", data)
    session = machine.session()
    asked: list[tuple[int, int]] = []
    read_object = session.read_object

    def counted(opened: Opened, start: int, end: int, limit: float) -> tuple[Message, list[int]]:
        asked.append((start, end))
        return read_object(opened, start, end, limit)

    monkeypatch.setattr(session, "read_object", counted)
    with ObjectReader(session, session.open_object("f")) as reader:
        for start in range(0, len(data), BLOCK):
            assert reader.read_range(start, start + BLOCK) == data[start : start + BLOCK]
    assert len(asked) < len(data) // BLOCK // 3


def test_a_reader_is_promised_no_byte_that_is_not_there(machine: Machine) -> None:
    data = os.urandom(200 * BLOCK)
    machine.write("f", data)
    session = machine.session()
    opened = session.open_object("f")
    chance = random.Random(5)
    try:
        for turn in range(120):
            number = chance.randrange(200) if turn % 3 else turn // 3
            start = number * BLOCK
            ok, fds = session.read_object(opened, start, start + BLOCK, session.limit())
            protocol.close_all(fds)
            until = len(data) if ok["complete"] else ok.get("until", start + BLOCK)
            assert until >= start + BLOCK
            assert os.pread(opened.fd, until - start, start) == data[start:until]
    finally:
        session.close_object(opened)


def test_sockets_and_directories_are_private(machine: Machine) -> None:
    machine.session().attachment()
    runtime = machine.settings.runtime_dir
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert stat.S_IMODE(machine.settings.worker_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((machine.settings.cache_dir / "store").stat().st_mode) == 0o700
    assert stat.S_IMODE((runtime / "worker.log").stat().st_mode) == 0o600


def test_a_second_worker_sees_the_first_and_ends_well(machine: Machine) -> None:
    session = machine.session()
    session.attachment()
    first = machine.pid
    done = subprocess.run(
        [sys.executable, "-m", "fluidpy.worker"],
        env=worker_environment(machine.settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "another worker serves" in done.stderr
    assert machine.pid == first


def test_it_ends_when_nobody_is_connected(make_machine: MakeMachine) -> None:
    machine = make_machine(idle_seconds=0.4)
    session = machine.session()
    machine.write("f", b"1")
    assert session.read("f") == b"1"
    pid = machine.pid
    session.connection.close()
    await_end(pid)
    assert not machine.settings.worker_socket.exists()
    assert "idle for 0.4 s" in machine.log()


def test_sigterm_ends_it_cleanly_and_the_next_one_has_all(machine: Machine) -> None:
    data = os.urandom(1_000_000)
    machine.write("f", data)
    session = machine.session()
    assert session.read("f") == data
    pid = machine.pid
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    assert "ended" in machine.log()
    assert session.read("f") == data
    assert machine.ask(session, "status")["counters"]["bytes_from_source"] == 0


def test_kill_9_during_fills_costs_no_wrong_byte(machine: Machine) -> None:
    files = {f"f{n}": os.urandom(2_000_000 + n) for n in range(8)}
    for name, data in files.items():
        machine.write(name, data)
    session = machine.session()
    chance = random.Random(7)
    for _ in range(4):
        reader = threading.Thread(target=lambda: [session.read(name) for name in files])
        pid = machine.pid
        reader.start()
        time.sleep(chance.random() * 0.1)
        os.kill(pid, signal.SIGKILL)
        reader.join(60)
        assert not reader.is_alive()
    for name, data in files.items():
        assert session.read(name) == data


def test_a_client_that_goes_takes_its_requests_and_handles_along(machine: Machine) -> None:
    machine.write("f", os.urandom(1_000_000))
    session = machine.session()
    opened = session.open_object("f")
    sock = session.connection._socket
    assert sock is not None
    fields = {"dataset": opened.attachment.dataset, "handle": opened.handle}
    message = protocol.request(9999, "read", 30, {**fields, "start": 0, "end": 1_000_000})
    protocol.send(sock, message)
    os.close(opened.fd)
    session.connection.close()
    other = machine.session()
    assert machine.ask(other, "status")["connections"] == 1
    assert len(other.read("f")) == 1_000_000


def test_a_passed_fd_is_not_trusted_after_the_cache_file_was_damaged(machine: Machine) -> None:
    data = os.urandom(10 * BLOCK)
    machine.write("f", data)
    session = machine.session()
    with ObjectReader(session, session.open_object("f")) as reader:
        assert reader.read_range(0, BLOCK) == data[:BLOCK]
    cached = next(p for p in (machine.settings.cache_dir / "store").glob("objects/*/*"))
    cached.write_bytes(b"damaged" * 1000)
    assert session.read("f") == data
    cached.unlink(missing_ok=True)
    assert session.read("f") == data


def test_a_changed_object_fails_open_readers_and_shows_at_the_next_open(machine: Machine) -> None:
    old, new = os.urandom(8_000_000), os.urandom(8_000_000)
    machine.write("f", old)
    session = machine.session()
    with ObjectReader(session, session.open_object("f")) as reader:
        assert reader.read_range(0, 10) == old[:10]
        machine.write("f", new)
        with pytest.raises(SourceChangedError):
            reader.read_range(7_000_000, 7_500_000)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert session.read("f") == new
            break
        except SourceChangedError:
            assert time.monotonic() < deadline


def test_a_file_changed_a_moment_ago_is_served_and_not_kept(machine: Machine) -> None:
    data = os.urandom(300_000)
    nas = machine.directory / "nas"
    nas.mkdir()
    session = machine.session(machine.definition(source=MountSource(str(nas))))
    session.attachment()  # the worker has started
    (nas / "f").write_bytes(data)
    os.utime(nas / "f", (time.time(), time.time() + 1.9))  # changed a moment ago for 3.9 s
    assert session.read("f") == data
    assert session.read("f", 1000, 200_000) == data[1000:200_000]
    counters = machine.ask(session, "status")["counters"]
    assert counters["bytes_not_kept"] > 0
    assert machine.ask(session, "usage")["tiers"][0]["used_bytes"] == 0


def test_segments_of_a_complete_object_are_asked_for_once(machine: Machine) -> None:
    data = random.Random(3).randbytes(4_000_000)
    machine.write("f", data)
    tier = TierDefinition(str(machine.directory / "segments"), 8_000_000)
    session = machine.session(machine.definition(tiers=(tier,)))
    assert machine.ask(session, "load", paths=[])["done_files"] == 1
    with ObjectReader(session, session.open_object("f")) as reader:
        for _ in range(2):
            for start in range(0, len(data), 50_000):
                assert reader.read_range(start, start + 1000) == data[start : start + 1000]
        hits = machine.ask(session, "status")["counters"]["hits"]
        assert hits <= 8
        position = len(data) // 2
        segment = next(s for s in reader._segments if s.start <= position < s.end)
        os.truncate(f"/proc/self/fd/{segment.fd}", 0)  # as somebody who cuts cache files
        assert reader.read_range(position, position + 10) == data[position : position + 10]


def test_large_objects_are_read_through_segments(machine: Machine) -> None:
    tier = TierDefinition(str(machine.directory / "tier"), 16 * BLOCK * 8)
    data = os.urandom(60 * BLOCK + 17)
    machine.write("f", data)
    session = machine.session(machine.definition(tiers=(tier,)))
    for _ in range(2):
        assert session.read("f") == data
        assert session.read("f", 15 * BLOCK, 17 * BLOCK) == data[15 * BLOCK : 17 * BLOCK]


def test_errors_come_as_what_they_are(machine: Machine) -> None:
    machine.write("d/f", b"1")
    session = machine.session()
    with pytest.raises(PathNotFoundError):
        session.entry("nope")
    with pytest.raises(IsADirectoryInDatasetError):
        session.open_object("d")
    with pytest.raises(DatasetNotFoundError, match="not in use"):
        session.connection.call("attach", deadline=60, name="default/other")
    with pytest.raises(UsageError, match="knows no operation"):
        session.connection.call("dance", deadline=5)
    opened = session.open_object("d/f")
    with pytest.raises(UsageError, match="'start' is str"):
        machine.ask(session, "read", handle=opened.handle, start="0", end=1)
    session.close_object(opened)
    with pytest.raises(ValidationError, match="cannot be understood"):
        session.connection.call("attach", deadline=60, definition={"name": "x"})


def test_a_directory_in_two_sets_of_tiers_is_refused(machine: Machine) -> None:
    machine.write("f", b"1")
    tiers = [TierDefinition(str(machine.directory / name), 1 << 24) for name in "ab"]
    machine.session(machine.definition("one", tiers=(tiers[0],))).attachment()
    with pytest.raises(CacheDirectoryError, match="another set of tiers"):
        machine.session(machine.definition("two", tiers=tuple(tiers))).attachment()


def test_a_changed_definition_serves_new_opens_and_lets_old_handles_finish(
    machine: Machine, make_machine: MakeMachine
) -> None:
    data, other = os.urandom(3_000_000), os.urandom(1000)
    machine.write("f", data)
    old = machine.session()
    with ObjectReader(old, old.open_object("f")) as reader:
        elsewhere = make_machine()
        elsewhere.write("f", other)
        new = machine.session(machine.definition(source=elsewhere.source()))
        assert new.read("f") == other
        assert new.attachment().dataset == old.attachment().dataset
        assert reader.read_range(2_000_000, 3_000_000) == data[2_000_000:]


def test_changes_are_pushed_to_those_who_subscribed(machine: Machine) -> None:
    machine.write("kept", b"1")
    machine.write("changed", b"1")
    machine.write("gone", b"1")
    session = machine.session()
    before = {entry.name: entry.id for entry in session.listdir("/")}
    attachment = session.attachment()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.settimeout(10)
    listener.connect(os.fspath(machine.settings.worker_socket))
    fields = {"dataset": attachment.dataset, "subscribe": True}
    protocol.send(listener, protocol.request(1, "invalidations", 5, fields))
    assert protocol.receive(listener) is not None
    machine.write("changed", b"22")
    machine.remove("gone")
    session.entry("", refresh=True)
    received = protocol.receive(listener)
    assert received is not None
    listener.close()
    after = {entry.name: entry.id for entry in session.listdir("/")}
    assert received.message["event"] == "changed"
    assert sorted(received.message["entries"]) == sorted(
        [
            [1, "changed", before[b"changed"], after[b"changed"]],
            [1, "gone", before[b"gone"], 0],
        ]
    )
    assert after[b"kept"] == before[b"kept"]


def test_long_listings_go_through_a_file(machine: Machine) -> None:
    for number in range(2500):
        machine.write(f"many/{number:05d}-{'x' * 40}", b"")
    names = [entry.name for entry in machine.session().listdir("many")]
    assert len(names) == 2500
    assert names == sorted(names)


def test_cache_operations_say_and_do(machine: Machine) -> None:
    machine.write("a/1", b"x" * 100_000)
    machine.write("b/2", b"y" * 10)
    session = machine.session()
    session.read("a/1")
    session.read("b/2")
    rows = machine.ask(session, "cache_list", path="/")["objects"]
    assert sorted((row["path"], row["cached_bytes"], row["pinned"]) for row in rows) == [
        ("a/1", 100_000, False),
        ("b/2", 10, False),
    ]
    assert machine.ask(session, "pin", path="/a", on=True) == {"objects": 1}
    rows = machine.ask(session, "cache_list", path="/a")["objects"]
    assert [row["pinned"] for row in rows] == [True]
    assert machine.ask(session, "usage")["tiers"][0]["objects"] == 2
    assert machine.ask(session, "scrub")["damaged"] == 0
    assert machine.ask(session, "evict", path="/b")["objects"] == 1
    assert [r["path"] for r in machine.ask(session, "cache_list", path="/")["objects"]] == ["a/1"]
    assert machine.ask(session, "evict", path="/a")["bytes"] >= 100_000


def test_eviction_takes_earlier_versions_along(machine: Machine) -> None:
    """Nobody can name them any more, and they would lie in the cache until it is full."""
    session = machine.session()
    for version in range(3):
        for path in ("a/1", "a/2", "b/1", "c"):
            machine.write(path, bytes([version]) * (50_000 + version))
        for folder in ("a", "b", ""):
            session.entry(folder, refresh=True)
        for path in ("a/1", "a/2", "b/1", "c"):
            session.read(path)
    machine.remove("a/2")
    session.entry("a", refresh=True)

    def objects() -> int:
        (tier,) = machine.ask(session, "usage")["tiers"]
        return int(tier["objects"])

    assert objects() == 12
    assert machine.ask(session, "evict", path="/a/1")["objects"] == 3
    assert machine.ask(session, "evict", path="/a")["objects"] == 3
    assert machine.ask(session, "evict", path="/c")["objects"] == 3
    assert machine.ask(session, "evict", path="/")["objects"] == 3
    assert objects() == 0


def test_earlier_versions_are_found_in_pages(machine: Machine) -> None:
    session = machine.session()
    for version in range(5):
        machine.write("a", bytes(100 + version))
        session.entry("", refresh=True)
    reader = CatalogReader(Path(session.attachment().catalog))
    try:
        whole, end = reader.retired_files()
        assert [entry.size for entry in whole] == [100, 101, 102, 103]
        assert not any(entry.live for entry in whole)
        assert reader.retired_files(end) == ([], end)
        found, position = reader.retired_files(limit=1)
        for expected in whole:
            assert found == [expected]
            found, position = reader.retired_files(position, 1)
        assert found == []
    finally:
        reader.close()
