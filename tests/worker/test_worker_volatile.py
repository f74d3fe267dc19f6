"""Local files that changed just now: checked on every read, kept once they have settled."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidpy.client.file import ObjectReader
from fluidpy.errors import SourceChangedError
from fluidpy.storage.under_storage import MountSource, is_volatile
from tests.worker.conftest import Machine


def stays_fresh(path: Path) -> None:
    """As by a clock ahead: the file is fresh for 3.9 s from now, not 2."""
    os.utime(path, (time.time(), time.time() + 1.9))


@pytest.fixture
def folder(machine: Machine) -> Path:
    made = machine.directory / "nas"
    made.mkdir()
    return made


def test_a_fresh_file_that_is_replaced_is_never_mixed(machine: Machine, folder: Path) -> None:
    path = folder / "f"
    session = machine.session(machine.definition(source=MountSource(str(folder), "m")))
    session.attachment()  # the worker has started
    path.write_bytes(b"old" * 100_000)
    stays_fresh(path)
    with ObjectReader(session, session.open_object("f")) as reader:
        assert is_volatile(reader.entry.version)
        assert reader.read_range(0, 100) == (b"old" * 100)[:100]
        time.sleep(0.02)  # longer than a tick of the file system's clock
        path.write_bytes(b"NEW" * 100_000)
        with pytest.raises(SourceChangedError):
            reader.read_range(200_000, 200_100)
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(SourceChangedError):  # until the folder was listed again
            assert session.read("f") == b"NEW" * 100_000
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_load_waits_for_fresh_files_and_keeps_them(machine: Machine, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).write_bytes(os.urandom(1000))
    session = machine.session(machine.definition(source=MountSource(str(folder), "m")))
    ok = machine.ask(session, "load", paths=["/"])
    assert (ok["done_files"], ok["failed"], ok["failures"]) == (2, 0, [])
    assert {row["path"] for row in machine.ask(session, "cache_list", path="/")["objects"]} == {
        "a",
        "b",
    }


def test_a_load_names_what_changed_while_it_waited(machine: Machine, folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(b"x")
    session = machine.session(machine.definition(source=MountSource(str(folder), "m")))
    session.attachment()
    loaded = threading.Event()

    def change_again_and_again() -> None:
        while not loaded.wait(0.1):
            path.touch()

    path.touch()  # the worker's start may have taken long enough for it to settle
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change_again_and_again)
        try:
            ok = machine.ask(session, "load", paths=["f"])
        finally:
            loaded.set()
        changing.result()
    assert (ok["done_files"], ok["failed"]) == (0, 1)
    assert "changed within the last 2 s" in ok["failures"][0][1]
    session.entry("f", refresh=True)  # it may have changed once more after it was listed
    assert session.read("f") == b"x"


def test_a_fresh_file_is_kept_soon_after_it_was_opened(machine: Machine, folder: Path) -> None:
    session = machine.session(machine.definition(source=MountSource(str(folder), "m")))
    session.attachment()
    began = time.time()
    (folder / "f").write_bytes(b"bytes")
    first = session.entry("f")
    assert session.read("f") == b"bytes"
    kept = machine.ask(session, "cache_list", path="/")["objects"]
    if time.time() - began < 2:  # else it had settled by then
        assert is_volatile(first.version)
        assert kept == []
    deadline = time.monotonic() + 60
    while is_volatile(session.entry("f").version):  # lists nothing itself: its folder is fresh
        assert time.monotonic() < deadline
        time.sleep(0.05)
    settled = session.entry("f")
    assert (settled.id != first.id, settled.ino) == (is_volatile(first.version), first.id)
    assert session.read("f") == b"bytes"
    assert len(machine.ask(session, "cache_list", path="/")["objects"]) == 1
