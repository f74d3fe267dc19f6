"""The mount with the real worker and a real directory as its source."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.cache.tier import TierDefinition
from fluidpy.fuse.mount_record import MountRecord
from fluidpy.fuse.mounting import list_mounts, mount_dataset, unmount
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource
from tests.fuse.conftest import READ_MODE, clear, worker_pid
from tests.fuse.passed_through import is_passed_through
from tests.fuse.reading_bed import OLD
from tests.fuse.test_fuse_serving import until


@pytest.fixture
def source(short_directory: Path) -> Path:
    """A directory of files, as a NAS would show it."""
    top = short_directory / "source"
    (top / "images/train").mkdir(parents=True)
    for number in range(20):
        (top / f"images/train/{number}.jpg").write_bytes(os.urandom(30_000 + number))
    (top / "large.bin").write_bytes(os.urandom(5_000_001))
    (top / "latest").symlink_to("images/train/3.jpg")
    for path in top.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (OLD, OLD))
    return top


@pytest.fixture
def record(
    source: Path,
    short_directory: Path,
    fuse_settings: Settings,
    mount_point: Path,
    real_worker: None,
) -> Iterator[MountRecord]:
    definition = DatasetDefinition(
        name="nas",
        namespace="default",
        mounts=(MountDefinition("nas", "/", MountSource(f"local://{source}", label="nas")),),
        tiers=(TierDefinition(str(short_directory / "tier"), 1 << 30),),
        metadata_ttl_seconds=0.5,
    )
    record = mount_dataset(
        definition,
        mount_point,
        fuse_settings,
        foreground=False,
        file=None,
        deadline=30,
        read_mode=READ_MODE,
    )
    yield record
    unmount(mount_point, fuse_settings, lazy=True)
    clear(mount_point, [record])


def same(left: Path, right: Path) -> bool:
    """Whether two trees have the same names, links and bytes."""
    names = sorted(os.fspath(p.relative_to(left)) for p in left.rglob("*"))
    if names != sorted(os.fspath(p.relative_to(right)) for p in right.rglob("*")):
        return False
    for name in names:
        one, other = left / name, right / name
        if one.is_symlink() and os.readlink(one) != os.readlink(other):
            return False
        if one.is_file() and one.read_bytes() != other.read_bytes():
            return False
    return True


def test_a_directory_is_served_cold_warm_and_without_its_worker(
    record: MountRecord, source: Path, mount_point: Path, fuse_settings: Settings
) -> None:
    assert same(mount_point, source)
    assert same(mount_point, source)
    os.kill(worker_pid(fuse_settings), signal.SIGKILL)
    (source / "late.txt").write_bytes(b"seen by the next worker")
    assert until(lambda: (mount_point / "late.txt").exists())
    assert same(mount_point, source)
    (now,) = list_mounts(fuse_settings)
    assert READ_MODE in ("auto", now.read_mode)
    if now.read_mode == "passthrough":
        content = (source / "large.bin").read_bytes()
        large = mount_point / "large.bin"
        assert until(lambda: is_passed_through(large, content, now.server_pid))


def test_what_changes_at_the_source_is_seen(
    record: MountRecord, source: Path, mount_point: Path
) -> None:
    name = "images/train/3.jpg"
    assert (mount_point / name).read_bytes() == (source / name).read_bytes()
    inode = (mount_point / name).stat().st_ino
    (source / name).write_bytes(b"another picture")
    os.utime(source / name, (OLD + 60, OLD + 60))
    (source / "images/train/7.jpg").unlink()
    (source / "images/added.txt").write_bytes(b"new")
    assert until(lambda: (mount_point / name).read_bytes() == b"another picture")
    assert (mount_point / name).stat().st_ino == inode
    assert until(lambda: not (mount_point / "images/train/7.jpg").exists())
    assert until(lambda: (mount_point / "images/added.txt").exists())
    assert same(mount_point, source)
