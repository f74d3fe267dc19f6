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


_STACKED: Final = frozenset({0x794C7630, 0xF15F})
"""Overlayfs and ecryptfs (uapi linux/magic.h): their files' pages are those of other files."""

_STATFS_BYTES: Final = 256
"""More than `struct statfs` has anywhere; it begins with the kind, a long."""

_NUMBER = ctypes.c_long(_CACHESTAT)
_ALL = _Range(0, 0)
_NO_FLAGS = ctypes.c_uint(0)


def all_in_memory(fd: int) -> bool | None:
    """Whether all pages of a file are in memory, or on their way there; in about 3 µs.

    None where the kernel does not tell: before Linux 6.5, where it is not allowed to, and of files
    whose pages are another's.
    """
    counts = _Counts()
    failed = _libc.syscall(_NUMBER, fd, ctypes.byref(_ALL), ctypes.byref(counts), _NO_FLAGS)
    if failed or (not counts.cached and _is_stacked(fd)):
        return None
    return int(counts.cached) * mmap.PAGESIZE >= os.fstat(fd).st_size


def _is_stacked(fd: int) -> bool:
    facts = ctypes.create_string_buffer(_STATFS_BYTES)
    failed = _libc.fstatfs(fd, facts)
    return bool(failed) or ctypes.c_long.from_buffer(facts).value in _STACKED
