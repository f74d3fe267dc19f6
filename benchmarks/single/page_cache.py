"""How much of a file the kernel has in memory, and how it is made to forget it."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def cached_bytes(path: Path) -> int:
    """Bytes of the file's pages that are in memory (mincore(2)); asking brings none.

    Only who may write the file is told; to others all of it seems to be there.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as area:
        pages = (ctypes.c_ubyte * -(-len(area) // mmap.PAGESIZE))()
        first = (ctypes.c_char * len(area)).from_buffer(area)
        failed = _libc.mincore(ctypes.byref(first), ctypes.c_size_t(len(area)), pages)
        del first  # it keeps the area open
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return mmap.PAGESIZE * sum(page & 1 for page in pages)


def forget(path: Path) -> None:
    """Writes the file's pages to the disk and drops them."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
