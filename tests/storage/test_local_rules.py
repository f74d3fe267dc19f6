"""Directories: versions, symlinks, what cannot be shown, and no way out of the root."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fluidpy.errors import SourceChangedError, SourceNotFoundError, SourceTimeoutError
from fluidpy.settings import Settings
from fluidpy.storage import local_files
from fluidpy.storage.blocking_calls import BlockingCalls
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import (
    Kind,
    MountSource,
    UnderStorage,
    is_volatile,
    may_be_kept,
)
from fluidpy.testing.storage_suite import listed


@pytest.fixture
async def storage(tmp_path: Path, settings: Settings) -> AsyncIterator[UnderStorage]:
    (tmp_path / "nas").mkdir()
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "root").symlink_to("nas")
    opened = open_storage(MountSource(f"local://{tmp_path}/root", "nas"), settings)
    yield opened
    await opened.close()


async def test_symlinks_are_shown_and_not_followed(storage: UnderStorage, tmp_path: Path) -> None:
    (tmp_path / "nas" / "link").symlink_to("../secret")
    (tmp_path / "nas" / "up").symlink_to("..")
    entries, _ = await listed(storage, "")
    shown = {entry.path: (entry.kind, entry.target) for entry in entries}
    assert shown == {"link": (Kind.SYMLINK, "../secret"), "up": (Kind.SYMLINK, "..")}
    for path in ("link", "up/secret", "../secret", "up/../../secret", "/etc/passwd", "./link"):
        with pytest.raises(SourceNotFoundError):
            await storage.read(path, 0, 7, b"")
    for path in ("up/secret", "../secret"):
        with pytest.raises(SourceNotFoundError):
            await storage.stat(path)


async def test_special_files_are_left_out_and_never_waited_for(
    storage: UnderStorage, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "nas" / "pipe")
    entries, omitted = await listed(storage, "")
    assert entries == []
    assert [(o.key, o.reason) for o in omitted] == [("pipe", "a device, socket or pipe")]
    with pytest.raises(SourceNotFoundError):
        await storage.read("pipe", 0, 1, b"")


async def test_names_that_are_not_utf8_can_be_read(storage: UnderStorage, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "nas" / name).write_bytes(b"coffee")
    entries, _ = await listed(storage, "")
    assert [entry.path for entry in entries] == [name]
    assert await storage.read(name, 0, 6, b"") == b"coffee"


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local files do not settle while a test runs, however slow the machine is."""
    monkeypatch.setattr(local_files, "SETTLED_NS", 3600 * 1_000_000_000)


async def test_a_file_changed_just_now_has_a_volatile_version(
    storage: UnderStorage, tmp_path: Path, unsettled: None
) -> None:
    (tmp_path / "nas" / "new").write_bytes(b"x")
    version = (await storage.stat("new")).version
    assert is_volatile(version)
    assert not may_be_kept(version)
    assert len(version) <= 64


async def test_a_volatile_version_is_checked_on_each_read(
    storage: UnderStorage, tmp_path: Path, unsettled: None
) -> None:
    path = tmp_path / "nas" / "new"
    path.write_bytes(b"old bytes")
    version = (await storage.stat("new")).version
    assert await storage.read("new", 0, 4, version) == b"old "
    path.unlink()
    path.write_bytes(b"NEW BYTES")
    with pytest.raises(SourceChangedError):
        await storage.read("new", 4, 9, version)


def test_a_settled_file_has_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    status = path.stat()
    later = time.time_ns() + 3_000_000_000
    assert local_files.settled_version(status, later) == local_files.pack_version(status)
    assert len(local_files.pack_version(status)) == 32


async def test_any_change_is_another_version(storage: UnderStorage, tmp_path: Path) -> None:
    path = tmp_path / "nas" / "file"
    path.write_bytes(b"first")
    version = local_files.pack_version(path.stat())
    assert await storage.read("file", 0, 5, version) == b"first"
    times = (path.stat().st_atime, path.stat().st_mtime)
    await asyncio.sleep(0.02)
    path.write_bytes(b"other")
    os.utime(path, times)
    with pytest.raises(SourceChangedError):
        await storage.read("file", 0, 5, version)


def test_a_change_during_the_read_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    version = local_files.pack_version(path.stat())
    genuine = local_files._read_range

    def change(descriptor: int, start: int, end: int) -> bytes:
        data = genuine(descriptor, start, end)
        time.sleep(0.02)
        path.write_bytes(b"other")
        return data

    monkeypatch.setattr(local_files, "_read_range", change)
    with pytest.raises(SourceChangedError):
        local_files.read_below(local_files.Root(str(tmp_path)), "file", 0, 5, version, "file")


async def test_a_hung_call_is_given_up_and_others_go_on() -> None:
    calls, release = BlockingCalls("nas", 2, 0.1), threading.Event()
    with pytest.raises(SourceTimeoutError, match=r"mount nas: reading x took longer than 0\.1 s"):
        await calls.run("reading x", release.wait)
    assert await calls.run("reading y", lambda: 7) == 7
    release.set()
    calls.close()
