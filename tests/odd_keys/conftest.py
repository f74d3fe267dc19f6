from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.conftest import CommandLine, command_line

__all__ = ["command_line"]


@contextmanager
def mounted(line: CommandLine, file: Path) -> Iterator[Path]:
    """The Dataset of a file as a directory."""
    directory = line.directory / "mounted"
    directory.mkdir()
    line.done("mount", "-f", file, directory)
    try:
        yield directory
    finally:
        line.done("umount", "--lazy", directory)


def files_below(directory: Path) -> dict[bytes, bytes]:
    """Each regular file below a directory with its bytes, by its path.

    Opens each name relative to its folder, so that a path may be longer than PATH_MAX.
    """
    found: dict[bytes, bytes] = {}

    def visit(folder: int, prefix: bytes) -> None:
        for name in map(os.fsencode, os.listdir(folder)):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
                visit(below, prefix + name + b"/")
            elif stat.S_ISREG(mode):
                with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as stream:
                    found[prefix + name] = stream.read()
        os.close(folder)

    visit(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), b"")
    return found
