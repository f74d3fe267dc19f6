"""What a user of a mounted tree sees."""

from __future__ import annotations

import errno
import mmap
import os
import random
import resource
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidpy.fuse.mounting import list_mounts
from fluidpy.settings import Settings
from tests.fuse.conftest import READ_MODE, Mounted
from tests.fuse.tree_worker import NOW_NS, Link, Node, TreeWorker


def seen(top: Path) -> dict[bytes, Node]:
    """The tree as `os.walk` and `open` show it."""
    found: dict[bytes, Node] = {}
    root = os.fsencode(top)
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = Link(os.readlink(path))
            elif os.path.isdir(path):
                found[key] = None
            else:
                with open(path, "rb") as stream:
                    found[key] = stream.read()
    return found


@pytest.mark.parametrize(("complete", "kept"), [(True, True), (False, True), (False, False)])
def test_the_whole_tree_is_served(
    worker: TreeWorker,
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
    complete: bool,
    kept: bool,
) -> None:
    worker.complete, worker.kept = complete, kept
    mounted()
    assert seen(mount_point) == worker.tree
    (record,) = list_mounts(fuse_settings)
    assert READ_MODE in ("auto", record.read_mode)


def test_attributes_are_those_of_the_entries(mounted: Mounted, mount_point: Path) -> None:
    mounted(uid=1234, gid=4321)
    status = (mount_point / "small.txt").stat()
    assert (status.st_uid, status.st_gid, status.st_size, status.st_nlink) == (1234, 4321, 6, 1)
    assert status.st_mtime_ns == NOW_NS
    assert stat.filemode(status.st_mode) == "-r--r--r--"
    folder = (mount_point / "folder").stat()
    assert stat.filemode(folder.st_mode) == "dr-xr-xr-x"
    assert folder.st_nlink == 2
    with os.scandir(mount_point) as entries:
        inodes = {entry.name: entry.inode() for entry in entries}
    assert inodes["small.txt"] == status.st_ino


def test_symlinks_are_symlinks(mounted: Mounted, mount_point: Path) -> None:
    mounted()
    assert (mount_point / "link").read_bytes() == b"inner"
    assert os.readlink(mount_point / "absolute") == "/etc/hostname"
    with pytest.raises(FileNotFoundError):
        (mount_point / "dangling").read_bytes()


def test_ranges_anywhere_and_behind_the_end(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    worker.complete = False
    mounted()
    content = worker.tree[b"large.bin"]
    assert isinstance(content, bytes)
    chance = random.Random(7)
    fd = os.open(mount_point / "large.bin", os.O_RDONLY)
    try:
        for _ in range(100):
            start, length = chance.randrange(len(content) + 5000), chance.randrange(200_000)
            assert os.pread(fd, length, start) == content[start : start + length]
        assert os.pread(fd, 10, len(content)) == b""
    finally:
        os.close(fd)


def test_direct_reads(worker: TreeWorker, mounted: Mounted, mount_point: Path) -> None:
    worker.complete = False
    mounted()
    buffer = mmap.mmap(-1, 1024 * 1024)
    fd = os.open(mount_point / "large.bin", os.O_RDONLY | os.O_DIRECT)
    try:
        assert os.preadv(fd, [buffer], 4096) == len(buffer)
    finally:
        os.close(fd)
    content = worker.tree[b"large.bin"]
    assert isinstance(content, bytes)
    assert buffer[:] == content[4096 : 4096 + len(buffer)]
    buffer.close()


def test_a_mapped_file(worker: TreeWorker, mounted: Mounted, mount_point: Path) -> None:
    worker.complete = False
    mounted()
    program = (
        "import mmap, sys, hashlib\n"
        "with open(sys.argv[1], 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:\n"
        "    print(hashlib.sha256(m).hexdigest())\n"
    )
    # In a process of its own: a page fault holds the interpreter that our worker needs.
    run = subprocess.run(
        [sys.executable, "-c", program, mount_point / "large.bin"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    import hashlib

    content = worker.tree[b"large.bin"]
    assert isinstance(content, bytes)
    assert run.stdout.strip() == hashlib.sha256(content).hexdigest()


def test_a_big_folder_is_complete_and_can_be_searched(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    names = [f"file-{number:06d}" + "x" * (number % 200) for number in range(4000)]
    worker.tree.clear()
    worker.tree[b"big"] = None
    worker.tree.update({b"big/" + name.encode(): b"" for name in names})
    mounted()
    assert sorted(os.listdir(mount_point / "big")) == sorted(names)
    assert (mount_point / "big" / names[1234]).exists()
    assert not (mount_point / "big" / "file-9").exists()
    out = subprocess.run(
        ["find", mount_point, "-type", "f", "-printf", "%f\n"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert sorted(out.split()) == sorted(names)


def test_many_readers_at_once(worker: TreeWorker, mounted: Mounted, mount_point: Path) -> None:
    worker.complete = False
    worker.tree.update({f"f{n}".encode(): os.urandom(150_000) for n in range(24)})
    mounted()

    def read(number: int) -> bool:
        name = f"f{number % 24}"
        return (mount_point / name).read_bytes() == worker.tree[name.encode()]

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, range(72)))


def test_thousands_of_files_may_be_open(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    count = 1500
    worker.tree.clear()
    worker.tree.update({f"f{n:04d}".encode(): f"{n}".encode() for n in range(count)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mounted()
    fds: list[int] = []
    try:
        for number in range(count):
            fds.append(os.open(mount_point / f"f{number:04d}", os.O_RDONLY))
            assert os.read(fds[-1], 10) == f"{number}".encode()
        assert os.pread(fds[0], 10, 0) == b"0"
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


WRITES: list[Callable[[Path], object]] = [
    lambda top: (top / "new").write_bytes(b""),
    lambda top: (top / "small.txt").open("r+b"),
    lambda top: (top / "new").mkdir(),
    lambda top: (top / "small.txt").unlink(),
    lambda top: (top / "folder").rmdir(),
    lambda top: (top / "small.txt").rename(top / "other"),
    lambda top: (top / "new").symlink_to("x"),
    lambda top: os.link(top / "small.txt", top / "new"),
    lambda top: (top / "small.txt").chmod(0o600),
    lambda top: os.utime(top / "small.txt"),
    lambda top: os.truncate(top / "small.txt", 0),
    lambda top: os.mkfifo(top / "new"),
    lambda top: os.setxattr(top / "small.txt", "user.x", b""),
    lambda top: os.chown(top / "small.txt", 0, 0),
]


def test_every_write_is_refused_as_read_only(mounted: Mounted, mount_point: Path) -> None:
    mounted()
    for write in WRITES:
        with pytest.raises(OSError) as caught:
            write(mount_point)
        assert caught.value.errno == errno.EROFS


@pytest.mark.skipif(not os.access("/sys/class/bdi", os.W_OK), reason="root may set it")
def test_the_kernel_reads_a_mebibyte_ahead_and_more(mounted: Mounted, mount_point: Path) -> None:
    mounted()
    assert read_ahead_kib(mount_point) >= 1024


def read_ahead_kib(directory: Path) -> int:
    """What the kernel says of a mount; only its own 128 where nobody may set it."""
    device = directory.stat().st_dev
    path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    return int(path.read_text())


def test_extended_attributes_are_not_there(mounted: Mounted, mount_point: Path) -> None:
    mounted()
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            os.getxattr(mount_point / "small.txt", "user.x")
        assert caught.value.errno == errno.ENOTSUP
    with pytest.raises(OSError):
        os.listxattr(mount_point / "small.txt")


def test_size_of_the_file_system(worker: TreeWorker, mounted: Mounted, mount_point: Path) -> None:
    mounted()
    seen(mount_point)
    info = os.statvfs(mount_point)
    files = [n for n in worker.tree.values() if isinstance(n, bytes) and not isinstance(n, Link)]
    assert info.f_files == len(files)
    assert info.f_blocks * info.f_frsize >= sum(map(len, files))
    assert info.f_bavail == 0
    assert info.f_flag & os.ST_RDONLY


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.01)
    return False


def waits(worker: TreeWorker, operation: str = "read") -> bool:
    """Whether a request of that kind has come to the worker, which makes it wait; in time."""
    return until(lambda: any(m.get("op") == operation for m in worker.requests))


def stall_this_one(worker: TreeWorker) -> threading.Event:
    """Lets the requests after a waiting READ be answered at once; the event ends its wait."""
    assert waits(worker)
    stall, worker.stall = worker.stall, None
    assert stall is not None
    return stall


def test_a_new_version_is_seen_by_the_next_open_and_not_by_an_old_one(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted()
    path = mount_point / "small.txt"
    inode = path.stat().st_ino
    with path.open("rb", buffering=0) as old:
        assert old.read(2) == b"he"
        worker.change(b"small.txt", b"a longer text than before\n")
        worker.list_directory(1)
        assert until(lambda: path.read_bytes() == worker.tree[b"small.txt"])
        assert path.stat().st_ino == inode
        assert path.stat().st_size == 26
        assert old.read() == b"llo\n"


def test_added_and_removed_names_are_seen(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted()
    assert "small.txt" in os.listdir(mount_point)
    assert not (mount_point / "added").exists()
    worker.tree[b"added"] = b"new"
    del worker.tree[b"small.txt"]
    worker.list_directory(1)
    assert until(lambda: "added" in os.listdir(mount_point))
    assert (mount_point / "added").read_bytes() == b"new"
    assert until(lambda: not (mount_point / "small.txt").exists())
    assert "small.txt" not in os.listdir(mount_point)


def test_a_stale_folder_is_asked_again(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted(metadata_ttl_seconds=0.2)
    assert "late" not in os.listdir(mount_point / "folder")
    worker.tree[b"folder/late"] = b"came later"
    assert until(lambda: "late" in os.listdir(mount_point / "folder"))
    worker.change(b"folder/late", b"and changed")
    assert until(lambda: (mount_point / "folder/late").read_bytes() == b"and changed")


def test_a_fresh_folder_costs_the_worker_nothing(
    worker: TreeWorker, mounted: Mounted, mount_point: Path
) -> None:
    mounted()
    seen(mount_point)
    asked = len(worker.requests)
    for _ in range(3):
        assert len(os.listdir(mount_point / "folder")) == 2
        assert (mount_point / "folder/inner.txt").read_bytes() == b"inner"
        assert not (mount_point / "folder/none").exists()
    assert [m for m in worker.requests[asked:] if m.get("op") in ("list", "lookup", "read")] == []
