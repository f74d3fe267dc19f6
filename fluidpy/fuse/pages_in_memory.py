"""Whether the kernel has all pages of a file in memory; asking has it fetch none."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

_CACHESTAT: Final = 451
"""The number of cachestat(2), the same on all machines but Alpha; since Linux 6.5."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    """`struct cachestat_range` (uapi/linux/mman.h); a length of 0 means to the end."""

    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    """`struct cachestat` (uapi/linux/mman.h), in pages."""

    _fields_ = (
        ("cached", ctypes.c_uint64),
        ("dirty", ctypes.c_uint64),
        ("writeback", ctypes.c_uint64),
        ("evicted", ctypes.c_uint64),
        ("recently_evicted", ctypes.c_uint64),
    )


_NUMBER = ctypes.c_long(_CACHESTAT)
_ALL = _Range(0, 0)
_NO_FLAGS = ctypes.c_uint(0)


def all_in_memory(fd: int) -> bool | None:
    """Whether all pages of a file are in memory, or on their way there; in about 3 µs.

    None where the kernel does not tell: before Linux 6.5, or where it is not allowed to.
    """
    counts = _Counts()
    failed = _libc.syscall(_NUMBER, fd, ctypes.byref(_ALL), ctypes.byref(counts), _NO_FLAGS)
    if failed:
        return None
    return int(counts.cached) * mmap.PAGESIZE >= os.fstat(fd).st_size
