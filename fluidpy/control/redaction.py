"""Secret values taken out of what a program prints, line by line. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MARK: Final = b"***"
"""What stands in a line in place of a secret."""

SHORTEST: Final = 4
"""Shorter values are left: replacing each `a` would make a log unreadable and hide nothing."""

LINE_BYTES: Final = 16384
"""A longer line is cut into pieces of this size."""


class Redactor:
    """Takes chunks of output, gives whole lines without secrets, and counts what was hidden."""

    def __init__(self, values: Iterable[str]) -> None:
        """`values` are secrets; of one with several lines, such as a key file, each line is one."""
        parts = {part.strip() for value in values for part in (value, *value.splitlines())}
        hidden = {part.encode("utf-8", "surrogateescape") for part in parts}
        self._values = sorted((v for v in hidden if len(v) >= SHORTEST), key=len, reverse=True)
        self._rest = b""
        self.hidden = 0

    def lines(self, chunk: bytes) -> list[bytes]:
        """The lines that the chunk ends, with their line ends."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        while len(self._rest) > LINE_BYTES + self._longest:
            self._rest = self._clean(self._rest)  # before the cut, which may go through a secret
            whole.append(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        return [self._clean(line) + b"\n" for line in whole]

    def end(self) -> list[bytes]:
        """What was printed behind the last line end."""
        rest, self._rest = self._rest, b""
        return [self._clean(rest) + b"\n"] if rest else []

    @property
    def _longest(self) -> int:
        return len(self._values[0]) if self._values else 0

    def _clean(self, line: bytes) -> bytes:
        for value in self._values:
            if value in line:
                self.hidden += line.count(value)
                line = line.replace(value, MARK)
        return line
