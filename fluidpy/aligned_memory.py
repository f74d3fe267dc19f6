"""Memory that begins at a page, for what the kernel copies into.

Much of that comes from whole pages: a file's, or a socket's. AMD's processors copy with `rep movsb`
(what the kernel uses where they announce FSRM) at a quarter of their speed when the place they
write to lies 1 to 31 bytes further in its page than the one they read from: 2.7 GiB/s, not 12
(EPYC, Linux 6.18, page cache into 1 MiB). A large `bytearray` lies like that: malloc puts 16 bytes
before it.
"""

from __future__ import annotations

import mmap


def page_aligned(size: int) -> memoryview:
    """Private memory of `size` bytes (at least 1), all 0; given back with the last view of it."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
