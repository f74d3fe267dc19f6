"""A tier's directory: checked before it is used, made private, locked for one owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from pathlib import Path
from typing import Final, NamedTuple

from fluidpy.errors import CacheDirectoryError

NETWORK_FILE_SYSTEMS: Final = frozenset(
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p"),
        *("ceph", "lustre", "glusterfs", "beegfs", "gpfs", "orangefs"),
    ]
)
"""Types (as in /proc/self/mountinfo) whose locks, mmap or ctime cannot be relied on, or which are
no faster than the source itself."""
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
"""How proc(5) writes blanks, tabs, line ends and backslashes of a name."""
LOCAL_FUSE: Final = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.ntfs-3g"})
"""FUSE file systems that lie on a local disk."""


class MountFact(NamedTuple):
    """The mount a path lies in."""

    mount_point: str
    kind: str
    source: str


def parse_mount_table(table: str) -> list[MountFact]:
    """The mounts of a `/proc/self/mountinfo` (proc(5)), in its order."""
    found = []
    for line in table.split("\n"):  # nothing else ends one: a name may hold other line ends
        left, separator, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if separator and len(before) > 4 and len(after) > 1:
            point = _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), before[4])
            found.append(MountFact(point, after[0], after[1]))
    return found


def read_mount_table(pid: int | str = "self") -> list[MountFact]:
    """The mounts that a process sees. Raises OSError."""
    content = Path(f"/proc/{pid}/mountinfo").read_bytes()  # read as text, "\r" would end a line
    return parse_mount_table(content.decode("utf-8", "surrogateescape"))


def mount_of(path: str, mounts: list[MountFact]) -> MountFact | None:
    """The mount that holds `path`: the longest mount point above it, the last one mounted there."""
    best = None
    for mount in mounts:
        point = mount.mount_point.rstrip("/")
        inside = path == mount.mount_point or path.startswith(point + "/")
        if inside and (best is None or len(mount.mount_point) >= len(best.mount_point)):
            best = mount
    return best


def refuse_mount(directory: str, mount: MountFact | None) -> None:
    """Raises CacheDirectoryError where a cache must not lie: on a network or on fluidpy itself."""
    if mount is None:
        return
    if "fluidpy" in mount.kind or mount.source == "fluidpy":
        raise CacheDirectoryError(
            f"cache directory {directory} lies inside the fluidpy mount {mount.mount_point}",
            cure="Choose a directory on a local disk.",
        )
    foreign_fuse = mount.kind.startswith("fuse") and mount.kind not in LOCAL_FUSE
    if mount.kind in NETWORK_FILE_SYSTEMS or foreign_fuse:
        raise CacheDirectoryError(
            f"cache directory {directory} is on {mount.mount_point}, a {mount.kind} file system",
            cure="Choose a directory on a local disk (or /dev/shm), or set FLUIDPY_CACHE_DIR.",
        )


def _first_step(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "Free space on its disk" if full else "Make it writable for this user"


class TierDirectory:
    """The open, locked directory of a tier; `objects` is a descriptor of its `objects` folder.

    Raises CacheDirectoryError naming the directory, what is wrong with it and the cure.
    """

    def __init__(self, directory: str) -> None:
        self.path = directory
        self.objects = -1
        self._lock = -1
        try:
            self._open()
        except CacheDirectoryError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise CacheDirectoryError(
                f"cache directory {directory} cannot be used: {error.strerror or error}",
                cure=f"{_first_step(error)}, or set another one (FLUIDPY_CACHE_DIR).",
            ) from error

    def _open(self) -> None:
        mounts = read_mount_table()
        refuse_mount(self.path, mount_of(os.path.normpath(self.path), mounts))
        refuse_mount(self.path, mount_of(os.path.realpath(self.path), mounts))
        Path(self.path).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim(self.path)
        self._take_lock()
        objects = Path(self.path) / "objects"
        with contextlib.suppress(FileExistsError):
            objects.mkdir(0o700)
        self._claim(str(objects))
        self.objects = os.open(objects, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        for number in range(256):
            self._prepare_folder(f"{number:02x}")

    def _claim(self, directory: str) -> None:
        """Refuses what is not a real directory of this user, and closes it to everybody else."""
        facts = os.lstat(directory)
        if not stat.S_ISDIR(facts.st_mode):
            raise CacheDirectoryError(
                f"cache directory {directory} is a link or a file, not a directory",
                cure="Name the directory itself.",
            )
        if facts.st_uid != os.geteuid():
            raise CacheDirectoryError(
                f"cache directory {directory} belongs to user {facts.st_uid}, not to this user "
                f"({os.geteuid()})",
                cure="Each user needs a cache directory of his own (FLUIDPY_CACHE_DIR).",
            )
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise CacheDirectoryError(
                f"cache directory {directory} is on a read-only file system",
                cure="Choose a directory that can be written (FLUIDPY_CACHE_DIR).",
            )
        if stat.S_IMODE(facts.st_mode) != 0o700:
            Path(directory).chmod(0o700)

    def _take_lock(self) -> None:
        path = Path(self.path) / "lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise CacheDirectoryError(
                f"cache directory {self.path} is in use by another worker (process {owner})",
                cure="Stop that worker, or give this one a directory of its own "
                "(FLUIDPY_CACHE_DIR).",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _prepare_folder(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.objects)
            return
        facts = os.stat(name, dir_fd=self.objects, follow_symlinks=False)
        if not stat.S_ISDIR(facts.st_mode):
            raise CacheDirectoryError(
                f"{self.path}/objects/{name} is not a directory",
                cure=f"Remove {self.path}; it holds only cached data.",
            )

    def close(self) -> None:
        """Lets the lock and the descriptors go."""
        for descriptor in (self.objects, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self.objects = self._lock = -1
