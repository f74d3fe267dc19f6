"""Memory that begins at a page, for what the kernel copies into.

Much of that comes from whole pages: a file's, or a socket's. AMD's processors copy with `rep movsb`
(what the kernel uses where they announce FSRM) at a quarter of their speed when the place they
write to lies 1 to 31 bytes further in its page than the one they read from: 2.7 GiB/s, not 12
(EPYC, Linux 6.18, page cache into 1 MiB). A large `bytearray` lies like that: malloc puts 16 bytes
before it.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final

HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024
"""A huge page of x86-64, and of ARM with pages of 4 KiB."""


def page_aligned(size: int) -> memoryview:
    """Private memory of `size` bytes (at least 1), all 0; given back with the last view of it."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def in_one_piece(size: int) -> memoryview:
    """As `page_aligned`, in one huge page where the kernel gives one; at most as large as that.

    A disk that is told of one piece of memory, not of 25 pages, is done sooner: 100 KB read past
    the kernel's pages took 109 µs, not 164 (`O_DIRECT`, virtio, Linux 6.18, 2 cores).
    """
    import ctypes  # it takes milliseconds; most processes never need it

    area = mmap.mmap(-1, 2 * HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first = -ctypes.addressof(ctypes.c_char.from_buffer(area)) % HUGE_PAGE_BYTES
    with suppress(OSError):  # a kernel without huge pages
        area.madvise(mmap.MADV_HUGEPAGE, first, HUGE_PAGE_BYTES)
    return memoryview(area)[first : first + size]
