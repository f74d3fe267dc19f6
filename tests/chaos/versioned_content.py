"""Files whose every byte says of which file and version it is, and the ledger of versions.

Shared by the test that changes the source and by the processes that read the mount.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import time
import zlib
from functools import lru_cache
from pathlib import Path

CELL_BYTES = 4096
"""Each cell begins with its version and number, so that a read of any cell names its version."""
_HEADER = struct.Struct("<8sII")
_MAGIC = b"fluidpy\n"

SHARED_FILES = 50
CHANGING_FILES = 15
"""The last so many of the shared files get new versions."""


def shared_names(count: int = SHARED_FILES) -> list[str]:
    """Names of the files that all readers share, in five folders."""
    return [f"d{number % 5}/{number:03}" for number in range(count)]


def size_of(name: str, version: int) -> int:
    """Bytes of a version: 8 to 264 KiB, and never the same for two versions that follow."""
    base = 8192 + zlib.crc32(name.encode()) % (256 * 1024 - 8192)
    size = base + version * 5119 % 24_000
    return size + _HEADER.size if size % CELL_BYTES < _HEADER.size else size


def full_cells(size: int) -> int:
    """How many cells of a file of this size have their header."""
    return -(-size // CELL_BYTES)


@lru_cache(maxsize=128)
def content(name: str, version: int) -> bytes:
    """All bytes of a version."""
    size = size_of(name, version)
    data = bytearray(random.Random(f"{name}:{version}").randbytes(size))
    for cell in range(full_cells(size)):
        _HEADER.pack_into(data, cell * CELL_BYTES, _MAGIC, version, cell)
    return bytes(data)


def version_in(data: bytes) -> int | None:
    """The version that bytes from the beginning of a cell say they are of; None: no file's."""
    if len(data) < _HEADER.size:
        return None
    magic, version, _cell = _HEADER.unpack_from(data)
    return int(version) if magic == _MAGIC else None


class Ledger:
    """Which versions of the shared files the source may hold, by a file that processes map.

    A change is *begun* before the source has it, and *settled* once a metadata sync has seen it.
    """

    _ROW = struct.Struct("<IIdd")

    def __init__(self, path: Path, names: list[str]) -> None:
        """Opens the ledger of these names; makes it, all at version 1, when it is not there."""
        self._numbers = {name: number for number, name in enumerate(names)}
        size = self._ROW.size * len(names)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fresh = os.fstat(fd).st_size == 0
            if fresh:
                os.ftruncate(fd, size)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        for name in names if fresh else ():
            self._write(name, 1, 1, 0.0, 0.0)

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def _write(self, name: str, begun: int, settled: int, begun_at: float, at: float) -> None:
        row = self._numbers[name]
        self._ROW.pack_into(self._map, row * self._ROW.size, begun, settled, begun_at, at)

    def _read(self, name: str) -> tuple[int, int, float, float]:
        return self._ROW.unpack_from(self._map, self._numbers[name] * self._ROW.size)

    def begin(self, name: str) -> int:
        """The source is about to have the next version, which is given."""
        begun, settled, _, at = self._read(name)
        self._write(name, begun + 1, settled, time.monotonic(), at)
        return begun + 1

    def settle(self, name: str) -> None:
        """A sync has seen the version that was begun last."""
        begun, _, begun_at, _ = self._read(name)
        self._write(name, begun, begun, begun_at, time.monotonic())

    def newest(self, name: str) -> int:
        """The newest version that may be seen."""
        return self._read(name)[0]

    def oldest_for_an_open(self, name: str, opened_at: float, grace: float) -> int:
        """The oldest version that an open at that time may see."""
        begun, settled, _, settled_at = self._read(name)
        if opened_at - settled_at > grace:
            return settled
        return 1 if begun == settled else max(1, settled - 1)

    def changed_since(self, name: str, opened_at: float, grace: float) -> bool:
        """Whether a change was under way, or not long over, at some time since the open."""
        begun, settled, _, settled_at = self._read(name)
        return begun != settled or (settled > 1 and settled_at > opened_at - grace)

    def close(self) -> None:
        """Lets go of the map."""
        self._map.close()
