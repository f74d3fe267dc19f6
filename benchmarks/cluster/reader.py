"""Reads every file of a Dataset through `fluid://`'s session and compares its checksum.

The order comes as JSON on stdin; the outcome of each pass goes to stdout as a line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
import zlib
from pathlib import Path

from fluidpy.client.session import DatasetSession
from fluidpy.errors import FluidpyError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

PIECE = 4 * 1024 * 1024


def _sum_of(session: DatasetSession, path: str, size: int) -> int:
    if size <= PIECE:
        return zlib.crc32(session.read(path))
    found = 0
    for start in range(0, size, PIECE):
        found = zlib.crc32(session.read(path, start, min(start + PIECE, size)), found)
    return found


def main() -> int:
    """Reads as it was told; 1 when a byte was wrong or could not be read."""
    order = json.load(sys.stdin)
    sums: dict[str, tuple[int, int]] = json.loads(Path(order["sums"]).read_text())
    settings = Settings(Path(order["cache_dir"]), Path(order["runtime_dir"]))
    session = DatasetSession(DatasetDefinition.from_wire(order["definition"]), settings)
    chance, bad = random.Random(order["seed"]), 0
    for _ in range(order["passes"]):
        paths, errors, wrong, began = list(sums), 0, 0, time.monotonic()
        chance.shuffle(paths)
        for path in paths:
            size, expected = sums[path]
            try:
                wrong += _sum_of(session, path, size) != expected
            except FluidpyError as error:
                print(f"{path}: {error}", file=sys.stderr)
                errors += 1
        seconds = time.monotonic() - began
        bad += errors + wrong
        print(json.dumps({"seconds": seconds, "errors": errors, "wrong": wrong}), flush=True)
    session.close()
    session.connection.close()
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
