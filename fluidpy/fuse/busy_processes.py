"""Who keeps a mount busy: processes with a folder, an open file or a mapping in it.

Only names in `/proc` are read, never the files: that would wait for a server that may be gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class BusyProcess(NamedTuple):
    """A process that uses a mount, and the path it holds."""

    pid: int
    command: str
    path: str


def find_busy(directory: Path, proc: Path = Path("/proc")) -> list[BusyProcess]:
    """Processes that we may look at and that hold something below `directory`."""
    top = os.fspath(directory)
    found = []
    for process in sorted(proc.iterdir(), key=lambda p: (len(p.name), p.name)):
        if process.name.isdigit() and (path := _held(process, top)) is not None:
            found.append(BusyProcess(int(process.name), _command(process), path))
    return found


def _held(process: Path, top: str) -> str | None:
    for path in _paths(process):
        if path == top or path.startswith(top + "/"):
            return path
    return None


def _paths(process: Path) -> Iterator[str]:
    for link in ("cwd", "root"):
        yield from _target(process / link)
    try:
        fds = list((process / "fd").iterdir())
    except OSError:  # ended meanwhile, or another user's
        return
    for fd in fds:
        yield from _target(fd)
    try:
        with (process / "maps").open(errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5].startswith("/"):
                    yield fields[5]
    except OSError:
        return


def _target(link: Path) -> Iterator[str]:
    try:
        yield os.fspath(link.readlink())
    except OSError:
        return


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
