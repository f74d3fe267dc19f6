"""The output of a program as a file of bounded size, for its owner only."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LARGEST_BYTES: Final = 1 << 20
"""A log of this size becomes `NAME.1`, and the one before it goes."""

_TAIL_BYTES: Final = 4096
_LONGEST_SHOWN: Final = 300


class ClientLog:
    """Lines that a program printed, and notes of whoever keeps it running."""

    def __init__(self, path: Path) -> None:
        """Goes on where the file ends. Raises OSError."""
        self._path = path
        self._file = self._open()
        self._last = ""

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def write(self, lines: Iterable[bytes]) -> None:
        """Adds lines that have their line ends."""
        content = b"".join(lines)
        if not content:
            return
        self._add(content)
        said = [line for line in content.decode(errors="replace").splitlines() if line.strip()]
        if said:
            self._last = "".join(c for c in said[-1].strip() if c.isprintable())[:_LONGEST_SHOWN]
        if os.fstat(self._file).st_size > LARGEST_BYTES:
            self._begin_anew()

    def _begin_anew(self) -> None:
        with contextlib.suppress(OSError):  # then the present file goes on growing, until it can
            with contextlib.suppress(FileNotFoundError):
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            fresh = self._open()
            os.close(self._file)
            self._file = fresh

    def _add(self, content: bytes) -> None:
        """What a full disk does not take is lost: a program is not ended for its log."""
        with contextlib.suppress(OSError):
            os.write(self._file, content)

    def note(self, text: str) -> None:
        """Adds a line of our own, with the time."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._add(f"{moment} fluidpy: {text}\n".encode())

    def last_line(self) -> str:
        """The last line that the program printed, shortened; empty if it has said nothing."""
        return self._last
