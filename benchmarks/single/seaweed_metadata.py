"""A million real objects in SeaweedFS within minutes: its filer loads entries from a file.

A PUT each would take a quarter of an hour. The file is what `weed shell`'s `fs.meta.load` reads:
a 4-byte big-endian length and a `FullEntry` (SeaweedFS `filer.proto`) for each entry; the bytes of
such small objects lie in the entry itself (`content`).
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections import deque
from pathlib import Path
from typing import BinaryIO

from fluidpy.testing.servers.seaweedfs import SeaweedServer, find_weed

_MODIFIED = 1_700_000_000
_DIRECTORY_MODE = (1 << 31) | 0o771  # Go's os.ModeDir
_FILE_MODE = 0o660
_AT_ONCE = 16
"""Entries stored at once; 2.5 times as fast as one after the other."""


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _full_entry(directory: str, name: str, content: bytes | None) -> bytes:
    if content is None:
        attributes = _number(2, _MODIFIED) + _number(3, _DIRECTORY_MODE) + _number(6, _MODIFIED)
        entry = _bytes(1, name.encode()) + _number(2, 1) + _bytes(4, attributes)
    else:
        attributes = (
            _number(1, len(content))
            + _number(2, _MODIFIED)
            + _number(3, _FILE_MODE)
            + _number(6, _MODIFIED)
            + _bytes(14, hashlib.md5(content, usedforsecurity=False).digest())
        )
        entry = _bytes(1, name.encode()) + _bytes(4, attributes) + _bytes(9, content)
    message = _bytes(1, directory.encode()) + _bytes(2, entry)
    return struct.pack(">I", len(message)) + message


def _write_entries(stream: BinaryIO, bucket: str, folders: int, files: int) -> None:
    stream.write(_full_entry("/buckets", bucket, None))
    last: deque[bytes] = deque(maxlen=4 * _AT_ONCE)
    for folder in range(folders):
        directory = f"/buckets/{bucket}/class_{folder:04d}"
        stream.write(_full_entry(f"/buckets/{bucket}", f"class_{folder:04d}", None))
        for number in range(folder * files, (folder + 1) * files):
            last.append(_full_entry(directory, f"image_{number:08d}.jpg", b"%016d" % number))
            stream.write(last[-1])
    # `fs.meta.load` (4.48) ends before its last entries are stored: these come twice.
    stream.writelines(last)


def _ports(server: SeaweedServer) -> dict[str, str]:
    arguments = [str(argument) for argument in server.process.args]  # type: ignore[union-attr]
    return dict(argument.lstrip("-").split("=", 1) for argument in arguments if "=" in argument)


def fill_bucket(server: SeaweedServer, bucket: str, folders: int, files: int, work: Path) -> None:
    """Makes a bucket with `folders` × `files` objects of 16 bytes each."""
    path = work / f"{bucket}.meta"
    with path.open("wb") as stream:
        _write_entries(stream, bucket, folders, files)
    ports = _ports(server)
    subprocess.run(
        [
            find_weed(),
            "-logtostderr",
            "shell",
            f"-master=127.0.0.1:{ports['master.port']}",
            f"-filer=127.0.0.1:{ports['filer.port']}",
        ],
        input=f"fs.meta.load -v=false -concurrency={_AT_ONCE} {path}\n".encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=3000,
        check=True,
    )
    path.unlink()
