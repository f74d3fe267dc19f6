"""The name of a forked process in `ps`: its command line, written anew in place.

A server is forked from a template, and would be listed under its name. The command line lies in the
process's own memory, between two addresses that `/proc/PID/stat` names (proc(5)).
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

SERVER: Final = "fluidpy.fuse.server"
SPARE: Final = "fluidpy.fuse.spare"
"""What servers call themselves while they serve, and while they wait for their turn."""

_ARGUMENT_START: Final = 48
"""Number of the field `arg_start` in `/proc/PID/stat`; `arg_end` follows."""


def set_module_name(module: str) -> bool:
    """Names another module as the one that `python -m` runs; false where that cannot be done.

    There is room for a name as long as the first one.
    """
    arguments = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    start, end = _argument_range(Path("/proc/self/stat").read_text())
    try:
        arguments[arguments.index(b"-m") + 1] = module.encode()
    except (ValueError, IndexError):
        return False
    renamed = b"\0".join(arguments)
    if not start or len(renamed) >= end - start:
        return False
    ctypes.memmove(start, renamed.ljust(end - start, b"\0"), end - start)
    return True


def _argument_range(status: str) -> tuple[int, int]:
    fields = status.rpartition(")")[2].split()
    first = _ARGUMENT_START - 3  # the fields before are the pid, the name in brackets, the state
    return int(fields[first]), int(fields[first + 1])
