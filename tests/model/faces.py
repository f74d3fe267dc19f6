"""The two faces of a Dataset, seen alike: a mounted directory, and `fluid://` through a session."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple, Protocol

from fluidpy.client.file import ObjectReader
from fluidpy.client.session import DIRECTORY, DatasetSession

Shown = dict[str, bytes | None]
"""Bytes by path; None is a folder."""


class Seen(NamedTuple):
    """What `stat` says."""

    is_folder: bool
    size: int
    ino: int


class OpenFile(Protocol):
    """A file that stays open."""

    def read(self, start: int, end: int) -> bytes: ...

    def close(self) -> None: ...


class Face(Protocol):
    """Reading a Dataset; all raise OSError."""

    def tree(self) -> Shown: ...

    def stat(self, path: str) -> Seen: ...

    def names(self, path: str) -> set[str]: ...

    def open(self, path: str) -> OpenFile: ...


def read_all(face: Face, path: str, size: int) -> bytes:
    file = face.open(path)
    try:
        return file.read(0, size)
    finally:
        file.close()


class MountedFile:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(self._fd).st_mode):  # which opens, and fails when it is read
            os.close(self._fd)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def read(self, start: int, end: int) -> bytes:
        data = b""
        while start + len(data) < end:
            piece = os.pread(self._fd, end - start - len(data), start + len(data))
            if not piece:
                break
            data += piece
        return data

    def close(self) -> None:
        os.close(self._fd)


class MountFace:
    """The kernel's view."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def tree(self) -> Shown:
        shown: Shown = {}
        todo = [""]
        while todo:
            folder = todo.pop()
            for name in os.listdir(self._directory / folder):
                path = f"{folder}/{name}" if folder else name
                seen = self.stat(path)
                shown[path] = None if seen.is_folder else read_all(self, path, seen.size + 1)
                if seen.is_folder:
                    todo.append(path)
        return shown

    def stat(self, path: str) -> Seen:
        at = self._directory / path
        status = at.stat()
        return Seen(at.is_dir(), status.st_size, status.st_ino)

    def names(self, path: str) -> set[str]:
        return set(os.listdir(self._directory / path))

    def open(self, path: str) -> OpenFile:
        return MountedFile(self._directory / path)


class SessionFile:
    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader

    def read(self, start: int, end: int) -> bytes:
        return self._reader.read_range(start, end)

    def close(self) -> None:
        self._reader.close()


class UrlFace:
    """What `fluid://` does, below fsspec."""

    def __init__(self, session: DatasetSession) -> None:
        self.session = session

    def tree(self) -> Shown:
        shown: Shown = {}
        todo = [("", 1)]
        while todo:
            folder, number = todo.pop()
            for entry in self.session.list_directory(number):
                name = os.fsdecode(entry.name)
                path = f"{folder}/{name}" if folder else name
                if entry.kind == DIRECTORY:
                    shown[path] = None
                    todo.append((path, entry.id))
                else:
                    shown[path] = read_all(self, path, entry.size + 1)
        return shown

    def stat(self, path: str) -> Seen:
        entry = self.session.entry(path)
        return Seen(entry.kind == DIRECTORY, entry.size, entry.ino)

    def names(self, path: str) -> set[str]:
        return {os.fsdecode(entry.name) for entry in self.session.listdir(path)}

    def open(self, path: str) -> OpenFile:
        return SessionFile(ObjectReader(self.session, self.session.open_object(path)))
