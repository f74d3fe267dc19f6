"""How the worker's allocator treats the buffers of parts: kept while busy, given back when idle.

Parts of some MiB come and go hundreds of times a second. glibc would return each to the kernel and
fault its pages in again: reading 1 GiB from S3 took 1.15 s of CPU so, and 0.91 s with this.
Elsewhere (musl) nothing is done.
"""

from __future__ import annotations

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3), from glibc's malloc.h."""

KEPT_BYTES: Final = 192 * 1024 * 1024
"""Free memory kept at the top of the heap; above what may be under way (128 MiB) and then some."""

MMAP_BYTES: Final = 32 * 1024 * 1024
"""Buffers below this size come from the heap; the largest value mallopt takes."""


def keep_buffers() -> bool:
    """Makes the allocator keep what is freed; true where that is possible."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(M_MMAP_THRESHOLD, MMAP_BYTES))


def give_back() -> None:
    """Returns free memory to the system; takes some milliseconds, so for idle moments."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
