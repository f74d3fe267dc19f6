"""The two faces of a Dataset, seen alike: a mounted directory, and `fluid://` through fsspec."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from pathlib import Path
from typing import NamedTuple, Protocol

from fluidpy.client.file import DatasetFile
from fluidpy.client.session import DatasetSession
from fluidpy.filesystem import FluidFileSystem

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

    def read(self, path: str, start: int, end: int) -> bytes: ...


def _read_opened(face: Face, path: str, start: int, end: int) -> bytes:
    file = face.open(path)
    try:
        return file.read(start, end)
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
                shown[path] = None if seen.is_folder else self.read(path, 0, seen.size + 1)
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

    def read(self, path: str, start: int, end: int) -> bytes:
        return _read_opened(self, path, start, end)


class UrlFile:
    """A file of fsspec's, read at positions."""

    def __init__(self, file: DatasetFile) -> None:
        self._file = file

    def read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)

    def close(self) -> None:
        self._file.close()


class FileSystem(FluidFileSystem):
    """`fluid://` of one Dataset, whose session was made with a test's own settings."""

    cachable = False

    def __init__(self, session: DatasetSession) -> None:
        super().__init__()
        self._one = session

    def _new_session(self, dataset: str) -> DatasetSession:
        return self._one


class UrlFace:
    """`fluid://` as its users have it: what they call alternates from one read to the next."""

    def __init__(self, session: DatasetSession) -> None:
        self._files = FileSystem(session)
        self._ways = itertools.cycle(("open", "cat_file", "cat_ranges"))

    def tree(self) -> Shown:
        found = self._files.find(DATASET, withdirs=True, detail=True)
        found.pop(DATASET)
        shown: Shown = dict.fromkeys(_inside(name) for name in found)
        files = [name for name, info in found.items() if info["type"] == "file"]
        sizes = [found[name]["size"] + 1 for name in files]
        for name, data in zip(files, self._ranges(files, sizes), strict=True):
            shown[_inside(name)] = data
        return shown

    def stat(self, path: str) -> Seen:
        info = self._files.info(_url(path))
        return Seen(info["type"] == "directory", info["size"], info["ino"])

    def names(self, path: str) -> set[str]:
        entries = self._files.ls(_url(path), detail=False)
        if entries == [_url(path)]:  # what fsspec lists of a file is the file
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return {name.rpartition("/")[2] for name in entries}

    def open(self, path: str) -> UrlFile:
        return UrlFile(self._files.open(_url(path)))

    def read(self, path: str, start: int, end: int) -> bytes:
        """By `open`, `cat_file` and `cat_ranges` in turns."""
        match next(self._ways):
            case "cat_file":
                return bytes(self._files.cat_file(_url(path), start, end))
            case "cat_ranges":
                return self._ranges([_url(path)], [end], start)[0]
        return _read_opened(self, path, start, end)

    def _ranges(self, names: list[str], ends: list[int], start: int = 0) -> list[bytes]:
        found = self._files.cat_ranges(names, start, ends, on_error="raise")
        contents = [data for data in found if isinstance(data, bytes)]
        assert len(contents) == len(names)
        return contents


DATASET = "dataset"
"""Any name: `FileSystem` knows one Dataset."""


def _url(path: str) -> str:
    return f"{DATASET}/{path}" if path else DATASET


def _inside(name: str) -> str:
    return name.removeprefix(f"{DATASET}/")
