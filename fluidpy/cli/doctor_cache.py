"""`doctor`'s checks of directories: the cache's, and the private one for sockets and records."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fluidpy.cli.findings import Finding, Verdict
from fluidpy.cli.printers import human_bytes
from fluidpy.fuse.mount_table import MountPoint, read_mounts
from fluidpy.settings import Settings

# Below this a cache evicts before it helps; one shard of a training set is often as large.
LITTLE_SPACE = 1024**3
# sizeof(sun_path) of unix(7), its closing zero included.
SOCKET_PATH_BYTES = 108
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "afs",
    "beegfs", "fuse.sshfs", "fuse.s3fs", "fuse.juicefs", "fuse.glusterfs", "fuse.ossfs",
}  # fmt: skip


def check_cache_directory(directory: Path) -> list[Finding]:
    """Whether the cache can be written, is local and has room."""
    standing = nearest_existing(directory)
    try:
        with tempfile.TemporaryFile(dir=standing):
            pass
    except OSError as error:
        return [
            Finding(
                "cache-dir",
                Verdict.BROKEN,
                f"{directory} cannot be written: {error.strerror} ({standing})",
                "Set FLUIDPY_CACHE_DIR to a directory on a local disk that you may write.",
            )
        ]
    return [_local(directory, standing), _space(directory, standing)]


def nearest_existing(path: Path) -> Path:
    """The path, or the closest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _local(directory: Path, standing: Path) -> Finding:
    kind = file_system_of(standing, read_mounts())
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding(
            "cache-dir",
            Verdict.BROKEN,
            f"{directory} lies on {kind}, a network file system",
            "Set FLUIDPY_CACHE_DIR to a directory on a local disk.",
        )
    return Finding("cache-dir", Verdict.OK, f"{directory} can be written, on {kind}")


def file_system_of(path: Path, points: Sequence[MountPoint]) -> str:
    """The file system type below a path: that of the deepest mount point above it."""
    resolved, best, kind = path.resolve(), -1, "an unknown file system"
    for point in points:
        depth = len(point.directory.parts)
        if depth >= best and resolved.is_relative_to(point.directory):
            best, kind = depth, point.file_system
    return kind


def _space(directory: Path, standing: Path) -> Finding:
    usage = shutil.disk_usage(standing)
    message = f"{human_bytes(usage.free)} of {human_bytes(usage.total)} free below {directory}"
    if usage.free < LITTLE_SPACE:
        cure = "Free space, or set FLUIDPY_CACHE_DIR to a larger disk."
        return Finding("cache-space", Verdict.NOTE, message, cure)
    return Finding("cache-space", Verdict.OK, message)


def check_runtime_directory(settings: Settings) -> Finding:
    """Whether the directory of sockets and records is this user's own and its paths are short."""
    directory = settings.runtime_dir
    length = len(os.fsencode(settings.worker_socket)) + 1
    if length > SOCKET_PATH_BYTES:
        return Finding(
            "runtime-dir",
            Verdict.BROKEN,
            f"{settings.worker_socket} is {length} bytes long; a socket's path may have "
            f"{SOCKET_PATH_BYTES}",
            "Set FLUIDPY_RUNTIME_DIR to a shorter path.",
        )
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return Finding("runtime-dir", Verdict.OK, f"{directory} is made on first use")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        return Finding(
            "runtime-dir",
            Verdict.BROKEN,
            f"{directory} is not a private directory of this user",
            f"chmod 700 {directory}, or set FLUIDPY_RUNTIME_DIR to a directory of your own.",
        )
    return Finding("runtime-dir", Verdict.OK, str(directory))
