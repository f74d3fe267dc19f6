"""Directories that cannot hold a cache are refused with their name and a cure; faults of a disk."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.cache.directory import (
    MountFact,
    mount_of,
    parse_mount_table,
    read_mount_table,
    refuse_mount,
)
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheDirectoryError, CacheError, CacheFullError, UsageError
from fluidpy.fuse.mount_table import mounted_at
from tests.cache.conftest import BLOCK, OpenStore, add, content_of, fill, key_of, read_back, used

AS_ROOT = os.geteuid() == 0


def open_at(directory: Path, quota: int = 1 << 20, block: int = BLOCK) -> BlockStore:
    return BlockStore.open([TierDefinition(str(directory), quota)], block_bytes=block)


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    with open_at(tmp_path / "a" / "b") as store:
        add(store, 1, BLOCK)
    assert (tmp_path / "a" / "b" / "index.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_second_owner_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = open_at(tmp_path)
    with pytest.raises(
        CacheDirectoryError, match=f"in use by another worker .process {os.getpid()}"
    ):
        open_at(tmp_path)
    first.close()
    open_at(tmp_path).close()


def test_a_tier_twice_is_refused(tmp_path: Path) -> None:
    tier = TierDefinition(str(tmp_path), 1 << 20)
    with pytest.raises(CacheDirectoryError, match="share a directory"):
        BlockStore.open([tier, tier], block_bytes=BLOCK)
    with pytest.raises(UsageError, match="at least one tier"):
        BlockStore.open([], block_bytes=BLOCK)


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CacheDirectoryError, match="link is a link or a file"):
        open_at(tmp_path / "link")
    with pytest.raises(CacheDirectoryError, match="file cannot be used"):
        open_at(tmp_path / "file")
    assert list((tmp_path / "real").iterdir()) == []


def test_a_planted_folder_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache" / "objects").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "objects" / "ab").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheDirectoryError, match="objects/ab is not a directory"):
        open_at(tmp_path / "cache")


@pytest.mark.skipif(not AS_ROOT, reason="only root can make a directory of another user")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(CacheDirectoryError, match=r"belongs to user 12345, not to this user \(0\)"):
        open_at(tmp_path)
    os.chown(tmp_path, os.geteuid(), -1)


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CacheDirectoryError, match="cannot be used: Permission denied"):
        open_at(tmp_path / "cache")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (MountFact("/mnt", "nfs4", "server:/"), "a nfs4 file system"),
        (MountFact("/mnt", "cifs", "//server"), "a cifs file system"),
        (MountFact("/mnt", "fuse.sshfs", "host:"), "a fuse.sshfs file system"),
        (MountFact("/mnt", "fuse.fluidpy", "fluidpy"), "inside the fluidpy mount /mnt"),
    ],
)
def test_network_mounts_and_our_own_are_refused(mount: MountFact, words: str) -> None:
    with pytest.raises(CacheDirectoryError, match=words):
        refuse_mount("/mnt/cache", mount)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "fuseblk", "btrfs"])
def test_local_mounts_are_accepted(kind: str) -> None:
    refuse_mount("/mnt/cache", MountFact("/mnt", kind, "/dev/sda"))


def test_the_mount_of_a_path_is_the_innermost_and_last() -> None:
    table = (
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        "2 1 8:2 / /data rw shared:1 - xfs /dev/b rw\n"
        "3 1 8:3 / /data rw - nfs server:/ rw\n"
        "4 1 8:4 / /with\\040space rw - tmpfs none rw\n"
        "5 1 8:5 / /数据\x85\rä rw - tmpfs none rw\n"
    )
    mounts = parse_mount_table(table)
    assert mount_of("/data/x", mounts) == MountFact("/data", "nfs", "server:/")
    assert mount_of("/database", mounts) == MountFact("/", "ext4", "/dev/a")
    assert mount_of("/with space/x", mounts) == MountFact("/with space", "tmpfs", "none")
    assert mount_of("/数据\x85\rä/x", mounts) == MountFact("/数据\x85\rä", "tmpfs", "none")


def test_a_mount_whose_name_holds_line_ends_is_seen(tmp_path: Path) -> None:
    point = tmp_path / "a\rb\r\nc"
    point.mkdir()
    mounting = ["mount", "-t", "tmpfs", "none", str(point)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        assert MountFact(str(point), "tmpfs", "none") in read_mount_table()
        mounted = mounted_at(point)
        assert mounted is not None
        assert mounted.file_system == "tmpfs"
    finally:
        subprocess.run(["umount", str(point)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(directory)],
        check=False,
        capture_output=True,
    )
    if mounting.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_disk_smaller_than_the_quota_evicts_before_it_is_full(small_disk: Path) -> None:
    with open_at(small_disk / "cache", 1 << 30, 65536) as store:
        for number in range(100):
            item = store.create(key_of(number), 65536)
            fill(item, content_of(number, 65536))
            store.flush()
        assert 20 * 65536 < used(store) < 4 << 20
        assert read_back(add(store, 99, 65536)) == content_of(99, 65536)


def fill_disk(path: Path) -> None:
    with open(path, "wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    assert os.statvfs(path).f_bavail == 0


def test_a_disk_filled_by_others_is_a_clear_error(small_disk: Path) -> None:
    with open_at(small_disk / "cache", 1 << 30, 65536) as store:
        item = store.create(key_of(1), 4 * 65536)
        item.reserve(0, 4 * 65536)
        fill_disk(small_disk / "other")
        with pytest.raises(CacheFullError, match="no space left for cache file"):
            item.write(0, content_of(1, 4 * 65536))
        item.abandon(0, 4 * 65536)
        assert used(store) == 0
        (small_disk / "other").unlink()
        fill(item, content_of(1, 4 * 65536))
        assert read_back(item) == content_of(1, 4 * 65536)


def test_a_disk_that_is_full_from_the_start_is_refused_as_full(small_disk: Path) -> None:
    fill_disk(small_disk / "other")
    with pytest.raises(CacheDirectoryError, match="No space left") as caught:
        open_at(small_disk / "cache")
    assert caught.value.cure is not None
    assert caught.value.cure.startswith("Free space on its disk")


def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(CacheDirectoryError, match=r"(?i)read-only file system"):
        open_at(small_disk / "cache")


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_failing_write_keeps_nothing_of_the_range(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = open_store()
    item = store.create(key_of(1), 4 * BLOCK)
    content = content_of(1, item.size)
    fill(item, content, 0, BLOCK)
    real = os.pwrite
    item.reserve(BLOCK, 4 * BLOCK)

    def failing(fd: int, data: bytes, offset: int) -> int:
        if offset > 2 * BLOCK:
            raise OSError(code, os.strerror(code))
        return real(fd, data[:3000], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing)
        with pytest.raises(CacheError) as raised:
            item.write(BLOCK, content[BLOCK:])
    assert isinstance(raised.value, CacheFullError) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert raised.value.cure
    item.abandon(BLOCK, 4 * BLOCK)
    assert item.missing(0, item.size) == [(BLOCK, 4 * BLOCK)]
    fill(item, content)
    assert read_back(item) == content
    assert used(store) == 4 * BLOCK
