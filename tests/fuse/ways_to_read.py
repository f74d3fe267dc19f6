"""Ways to read a whole file, each of which the kernel serves by code of its own."""

from __future__ import annotations

import mmap
import os
import random
from pathlib import Path


def by_sendfile(path: Path) -> bytes:
    out = os.memfd_create("copy")
    source = os.open(path, os.O_RDONLY)
    try:
        while os.sendfile(out, source, None, 1 << 20):
            pass
        return os.pread(out, 1 << 30, 0)
    finally:
        os.close(source)
        os.close(out)


def by_mmap(path: Path) -> bytes:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        return bytes(view)


def by_direct_io(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 20)  # aligned to a page
    content = b""
    try:
        while count := os.preadv(fd, [buffer], len(content)):
            content += buffer[:count]
        return content
    finally:
        os.close(fd)


def at_random(path: Path) -> bytes:
    size = path.stat().st_size
    content = bytearray(size)
    starts = list(range(0, size, 50_001))
    random.Random(3).shuffle(starts)
    with path.open("rb", buffering=0) as stream:
        for start in starts:
            content[start : start + 50_001] = os.pread(stream.fileno(), 50_001, start)
    return bytes(content)
