"""Reads every file of a Dataset through `fluid://`'s session and compares its checksum.

The order comes as JSON on stdin; the outcome of each pass goes to stdout as a line of JSON. With
`passes` 0 it reads on until the file `ending` exists, and tells the outcome of all of it then.
"""

from __future__ import annotations

import json
import random
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fluidpy.client.session import DatasetSession
from fluidpy.errors import FluidpyError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

PIECE = 4 * 1024 * 1024
_PATHS = ("cache_dir", "runtime_dir", "membership_file")


@dataclass
class Outcome:
    """What one reader saw."""

    seconds: float = 0.0
    reads: int = 0
    bytes: int = 0
    errors: int = 0
    wrong: int = 0
    slowest: float = 0.0
    """Longest time that one read took, in seconds."""


class Reader:
    """One session and what it saw since `begin`."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        """Attaches nothing yet."""
        given: dict[str, str] = order["settings"]
        values: dict[str, Any] = {n: Path(v) if n in _PATHS else v for n, v in given.items()}
        settings = Settings(**values)
        self.session = DatasetSession(DatasetDefinition.from_wire(order["definition"]), settings)
        self.sums: dict[str, tuple[int, int]] = json.loads(Path(order["sums"]).read_text())
        self.ending = Path(order["ending"])
        self.outcome = Outcome()

    def read_all(self, paths: list[str]) -> bool:
        """Reads these; False when it was told to end before."""
        for path in paths:
            if self.ending.exists():
                return False
            size, expected = self.sums[path]
            try:
                self.outcome.wrong += self._sum_of(path, size) != expected
            except FluidpyError as error:
                print(f"{path}: {error}", file=sys.stderr)
                self.outcome.errors += 1
        return True

    def _sum_of(self, path: str, size: int) -> int:
        found = 0
        for start in range(0, max(size, 1), PIECE):
            began = time.monotonic()
            data = self.session.read(path, start, min(start + PIECE, size))
            self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - began)
            self.outcome.reads += 1
            self.outcome.bytes += len(data)
            found = zlib.crc32(data, found)
        return found

    def tell(self, began: float) -> None:
        """Says what was seen since `began`, and begins anew."""
        self.outcome.seconds = time.monotonic() - began
        print(json.dumps(asdict(self.outcome)), flush=True)
        self.outcome = Outcome()


def main() -> int:
    """Reads as it was told."""
    order = json.load(sys.stdin)
    reader, chance = Reader(order), random.Random(order["seed"])
    paths, passes = list(reader.sums), int(order["passes"])
    began, going = time.monotonic(), True
    while going and not passes:
        chance.shuffle(paths)
        going = reader.read_all(paths)
    for _ in range(passes):
        began = time.monotonic()
        chance.shuffle(paths)
        reader.read_all(paths)
        reader.tell(began)
    if not passes:
        reader.tell(began)
    reader.session.close()
    reader.session.connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
