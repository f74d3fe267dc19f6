"""Counting what comes into a tier and what leaves it, by looking at its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Turnover:
    """`fills` and `evictions` between looks at a tier whose worker goes on meanwhile.

    A file that comes and goes between two looks is not counted: both numbers are the least there
    were. A worker that starts removes files, too: look once before and then while one runs.
    """

    tier: Path
    fills: int = 0
    evictions: int = 0
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def begin(self) -> None:
        """What is there now is neither."""
        self._seen = self._files()

    def look(self) -> None:
        """Counts what changed since the last look."""
        files = self._files()
        self.fills += len(files - self._seen)
        self.evictions += len(self._seen - files)
        self._seen = files

    def _files(self) -> set[tuple[str, int]]:
        """Name and inode of each: a file that is fetched again has the name of before."""
        found = set()
        for path in self.tier.glob("objects/*/*"):
            try:
                found.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
        return found
