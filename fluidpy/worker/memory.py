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
M_ARENA_MAX: Final = -8
"""Parameters of mallopt(3), from glibc's malloc.h."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Free memory kept at the top of each arena; half of what may be under way (128 MiB)."""

ARENAS: Final = 2
"""Heaps that threads share: each keeps what it had at its fullest moment."""

MMAP_BYTES: Final = 32 * 1024 * 1024
"""Buffers below this size come from the heap; the largest value mallopt takes."""


def keep_buffers() -> bool:
    """Makes the allocator keep what is freed; true where that is possible."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {
        M_ARENA_MAX: ARENAS,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_MMAP_THRESHOLD: MMAP_BYTES,
    }
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted.items())


def give_back() -> None:
    """Returns free memory to the system; takes some milliseconds, so for idle moments."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
