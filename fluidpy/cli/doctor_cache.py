"""`doctor`'s checks of directories: the cache's, and the private one for sockets and records."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from fluidpy.cache.directory import MountFact, mount_of, parse_mount_table, refuse_mount
from fluidpy.cli.findings import Finding, Verdict
from fluidpy.cli.printers import human_bytes
from fluidpy.errors import CacheDirectoryError
from fluidpy.settings import Settings

# Below this a cache evicts before it helps; one shard of a training set is often as large.
LITTLE_SPACE = 1024**3
# sizeof(sun_path) of unix(7), its closing zero included.
SOCKET_PATH_BYTES = 108


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
    table = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    mount = mount_of(os.path.realpath(standing), parse_mount_table(table))
    return judge_mount(directory, mount)


def judge_mount(directory: Path, mount: MountFact | None) -> Finding:
    """Whether the cache may lie on the file system of that mount, by the worker's own rule."""
    try:
        refuse_mount(str(directory), mount)
    except CacheDirectoryError as error:
        return Finding("cache-dir", Verdict.BROKEN, error.message, error.cure)
    kind = mount.kind if mount else "an unknown file system"
    return Finding("cache-dir", Verdict.OK, f"{directory} can be written, on {kind}")


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
