"""Files below one directory, opened so that no path leads out of it.

Each part of a path is opened relative to the folder before it and never through a symlink, so
neither `..` nor a link that someone swaps in at the wrong moment escapes the root. The root itself
may be a symlink. All functions block; `local` calls them in threads.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from fluidpy.storage.object_keys import NOT_READABLE, SPECIAL_FILE
from fluidpy.storage.under_storage import (
    VOLATILE,
    Kind,
    ListPage,
    ObjectInfo,
    OmittedKey,
    kind_of_mode,
    volatile,
)

_VERSION = struct.Struct("<qqQQ")
SETTLED_NS = 2_000_000_000
"""A file changed less than 2 s ago has a volatile version: file systems with coarse clocks (1 s on
ext3 and many NFS servers, 2 s on FAT) may show a second change with the same times."""

_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTED_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe must not wait for its writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


UNMOUNTED_MODE = 0o1700
"""Permissions of a directory to mount at, made so by whoever keeps the mount. By them, and by the
device, a bare one is told from a mount, even from one of another directory of the same device."""


@dataclass(frozen=True, slots=True)
class Root:
    """The directory that a mount shows.

    A `mounted` one is where a client of a network file system mounts: while nothing is mounted
    there (see `UNMOUNTED_MODE`), it is not an empty directory but unavailable; and inode numbers
    are no part of versions, for many FUSE clients number anew what the kernel had forgotten.
    """

    directory: str
    mounted: bool = False

    def open(self) -> int:
        """A descriptor (O_PATH) of the directory. Raises OSError, SourceUnavailableError."""
        descriptor = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.mounted:
            status, above = os.fstat(descriptor), Path(self.directory).parent.stat()
            bare = stat_module.S_IMODE(status.st_mode) == UNMOUNTED_MODE
            if bare and status.st_dev == above.st_dev:
                os.close(descriptor)
                raise SourceUnavailableError(
                    f"nothing is mounted at {self.directory}",
                    cure="It is mounted again soon, or `fluidpy describe` says why it is not.",
                )
        return descriptor

    def version(self, status: os.stat_result) -> bytes:
        """The version that a status stands for, whatever its age."""
        inode = 0 if self.mounted else status.st_ino
        return _VERSION.pack(status.st_mtime_ns, status.st_ctime_ns, status.st_size, inode)


_PLAIN = Root("")


def pack_version(status: os.stat_result) -> bytes:
    """The version a status stands for: times, size and inode, whatever its age."""
    return _PLAIN.version(status)


def settled_version(status: os.stat_result, now_ns: int, root: Root = _PLAIN) -> bytes:
    """The version of a file, volatile if it changed in the last 2 s or by a clock ahead."""
    version = root.version(status)
    if now_ns - status.st_ctime_ns < SETTLED_NS or 0 <= now_ns - status.st_mtime_ns < SETTLED_NS:
        return volatile(version)
    return version


def parts_of(path: str) -> list[str]:
    """The parts of a path. Raises SourceNotFoundError for those that no listing gives."""
    if not path:
        return []
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise SourceNotFoundError(
            f"{path!r} is no path below the mount",
            cure="Give a path without empty parts, `.` and `..`.",
        )
    return parts


def error_of_os(error: OSError, shown: str) -> SourceError:
    """The error for an OSError about the file shown as `shown`."""
    code = error.errno or errno.EIO
    if code in (errno.ENOENT, errno.ENOTDIR):
        return SourceNotFoundError(
            f"{shown} is not there",
            cure="Look at the directory, and that its file system is mounted.",
        )
    if code == errno.ELOOP:
        return SourceNotFoundError(
            f"{shown} is or passes a symbolic link, which is not followed",
            cure="Name what it points to by a path below the mount.",
        )
    if code in (errno.EACCES, errno.EPERM):
        return SourceAccessError(
            f"{shown} may not be read by this user",
            cure=f"Give user id {os.geteuid()} the right to read it.",
        )
    if code == errno.ESTALE:
        return SourceChangedError(f"{shown} was replaced while it was read", cure="Open it again.")
    if code == errno.ETIMEDOUT:
        return SourceTimeoutError(
            f"{shown} was not answered in time by its file system",
            cure="Look whether the server of the file system is up.",
        )
    return SourceUnavailableError(
        f"{shown} cannot be read: {os.strerror(code)}", cure="Check the file system below."
    )


@contextmanager
def folder(root: Root, parts: list[str]) -> Iterator[int]:
    """A descriptor (O_PATH) of the folder at `parts` below `root`, for `dir_fd`.

    Raises OSError, SourceUnavailableError.
    """
    current = root.open()
    try:
        for part in parts:
            following = os.open(part, _PATH_FLAGS, dir_fd=current)
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


def entry_of(
    root: Root, parent: int, name: str, path: str, status: os.stat_result, now_ns: int
) -> ObjectInfo | None:
    """The entry for a file's status; None for devices, sockets and pipes."""
    kind = kind_of_mode(status.st_mode)
    if kind is None:
        return None
    mode = stat_module.S_IMODE(status.st_mode)
    if kind is Kind.DIRECTORY:
        return ObjectInfo(path, kind, mtime_ns=status.st_mtime_ns, mode=mode)
    version = settled_version(status, now_ns, root)
    target = os.readlink(name, dir_fd=parent) if kind is Kind.SYMLINK else None
    return ObjectInfo(path, kind, status.st_size, status.st_mtime_ns, version, mode, target)


def stat_below(root: Root, path: str, now_ns: int) -> ObjectInfo:
    """The entry at `path`; the root must be one that can be listed.

    Raises OSError and SourceNotFoundError.
    """
    parts = parts_of(path)
    if not parts:
        with folder(root, parts) as top:
            status = os.fstat(top)
            os.close(os.open(".", _LISTED_FLAGS, dir_fd=top))
        if not stat_module.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        mode = stat_module.S_IMODE(status.st_mode)
        return ObjectInfo("", Kind.DIRECTORY, mtime_ns=status.st_mtime_ns, mode=mode)
    with folder(root, parts[:-1]) as parent:
        status = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        entry = entry_of(root, parent, parts[-1], path, status, now_ns)
    if entry is None:
        raise SourceNotFoundError(
            f"{path} is {SPECIAL_FILE}", cure="Only files, folders and symbolic links are shown."
        )
    return entry


def pages_of_folder(root: Root, path: str, now_ns: int, size: int) -> Iterator[ListPage]:
    """The children of a folder in pages of `size`. Raises OSError and SourceNotFoundError."""
    with folder(root, parts_of(path)) as parent:
        scanned = os.open(".", _LISTED_FLAGS, dir_fd=parent)
    page = ListPage([], [])
    try:
        with os.scandir(scanned) as children:
            for child in children:
                shown = f"{path}/{child.name}" if path else child.name
                _add(page, root, scanned, child, shown, now_ns)
                if len(page.entries) + len(page.omitted) >= size:
                    yield page
                    page = ListPage([], [])
    finally:
        os.close(scanned)
    yield page


def _add(
    page: ListPage, root: Root, parent: int, child: os.DirEntry[str], path: str, now_ns: int
) -> None:
    # A child that is gone by now is no child.
    with suppress(FileNotFoundError):
        try:
            status = child.stat(follow_symlinks=False)
            entry = entry_of(root, parent, child.name, path, status, now_ns)
        except PermissionError:
            page.omitted.append(OmittedKey(path, NOT_READABLE))
            return
        if entry is None:
            page.omitted.append(OmittedKey(path, SPECIAL_FILE))
        else:
            page.entries.append(entry)


def pages_of_tree(root: Root, path: str, now_ns: int, size: int) -> Iterator[ListPage]:
    """All below a folder, folders too. Raises OSError for the folder itself alone."""
    todo = [path]
    while todo:
        current = todo.pop()
        try:
            for page in pages_of_folder(root, current, now_ns, size):
                todo += [e.path for e in page.entries if e.kind is Kind.DIRECTORY]
                yield page
        except (FileNotFoundError, NotADirectoryError):
            if current == path:
                raise
        except PermissionError:
            if current == path:
                raise
            yield ListPage([], [OmittedKey(current, NOT_READABLE)])


def read_below(root: Root, path: str, start: int, end: int, version: bytes, shown: str) -> bytes:
    """The bytes `[start, end)` of that version. Raises OSError and kinds of SourceError."""
    parts, expected = parts_of(path), version.removeprefix(VOLATILE)
    if not parts:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with folder(root, parts[:-1]) as parent:
        descriptor = os.open(parts[-1], _FILE_FLAGS, dir_fd=parent)
    try:
        before = os.fstat(descriptor)
        if not stat_module.S_ISREG(before.st_mode):
            raise SourceNotFoundError(f"{shown} is not a file", cure="Read a regular file.")
        if expected and root.version(before) != expected:
            raise _changed(shown)
        data = _read_range(descriptor, start, end)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if expected and root.version(after) != expected:
        raise _changed(shown)
    if len(data) != end - start:
        raise _changed(shown)
    return data


def _read_range(descriptor: int, start: int, end: int) -> bytes:
    data = os.pread(descriptor, end - start, start)
    if len(data) == end - start or not data:
        return data
    pieces = [data]
    position = start + len(data)
    while position < end and (piece := os.pread(descriptor, end - position, position)):
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)


def _changed(shown: str) -> SourceChangedError:
    return SourceChangedError(
        f"{shown} is no longer the version that was listed",
        cure="Open it again to read the new version.",
    )
