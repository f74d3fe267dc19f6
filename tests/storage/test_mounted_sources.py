"""`mounted://`: where the client of another file system mounts, or does not mount just now."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.errors import SourceUnavailableError
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.local_files import UNMOUNTED_MODE, Root
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.storage_suite import listed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, as root")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "target"
    directory.mkdir()
    directory.chmod(UNMOUNTED_MODE)
    yield directory
    subprocess.run(["umount", "--quiet", str(directory)], check=False)


def source(directory: Path, mounted_as: str = "host:/export") -> MountSource:
    options = {"mounted_as": mounted_as, "retries": "0"}
    return MountSource(f"mounted://{directory}", "data", options)


def mount(directory: Path) -> None:
    """A directory of the same device, which `st_dev` alone does not tell from a bare one."""
    shown = directory.with_name("shown")
    shown.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(shown), str(directory)], check=True)


def unmount(directory: Path) -> None:
    subprocess.run(["umount", str(directory)], check=True)


async def test_what_is_not_mounted_is_unavailable_and_never_empty(
    directory: Path, settings: Settings
) -> None:
    storage = open_storage(source(directory), settings)
    try:
        for _ in range(2):
            with pytest.raises(SourceUnavailableError, match="nothing is mounted at"):
                await listed(storage, "")
            with pytest.raises(SourceUnavailableError):
                await storage.stat("")
            mount(directory)
            (directory / "file").write_bytes(b"content")
            entries, _ = await listed(storage, "")
            assert [entry.path for entry in entries] == ["file"]
            version = entries[0].version
            assert await storage.read("file", 0, 7, version) == b"content"
            unmount(directory)
            with pytest.raises(SourceUnavailableError):
                await storage.read("file", 0, 7, version)
    finally:
        await storage.close()


async def test_bytes_are_kept_by_what_is_mounted(directory: Path, settings: Settings) -> None:
    ids = set()
    for mounted_as in ("host:/a", "host:/b"):
        storage = open_storage(source(directory, mounted_as), settings)
        ids.add(storage.source_id)
        await storage.close()
    assert len(ids) == 2


def test_inode_numbers_are_no_part_of_versions(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    status = (tmp_path / "a").stat()
    values = list(status)
    values[1] = status.st_ino + 1
    times = {"st_mtime_ns": status.st_mtime_ns, "st_ctime_ns": status.st_ctime_ns}
    renumbered = os.stat_result(values, times)
    assert renumbered.st_ino != status.st_ino
    assert Root("", mounted=True).version(status) == Root("", mounted=True).version(renumbered)
    assert Root("").version(status) != Root("").version(renumbered)
