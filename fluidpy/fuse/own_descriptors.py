"""File descriptors of one thread alone (unshare(2) with CLONE_FILES).

A thread that the kernel keeps waiting also keeps its process from ending, and the process's sockets
from being closed: nobody would learn that the rest of it is gone. A thread with a table of its own
has only what it needs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_CLONE_FILES: Final = 0x400
"""unshare(2), from <linux/sched.h>; needs no privilege."""

_libc = ctypes.CDLL(None, use_errno=True)


def keep_only(fds: Iterable[int]) -> bool:
    """Leaves this thread these descriptors, as copies of its own; other threads keep theirs.

    False, and nothing done, where that is forbidden (a container's seccomp profile).
    """
    if _libc.unshare(_CLONE_FILES) != 0:
        return False
    kept = set(fds)
    for name in [entry.name for entry in Path("/proc/thread-self/fd").iterdir()]:
        if int(name) not in kept:
            with suppress(OSError):  # the one that listed them is closed already
                os.close(int(name))
    return True
