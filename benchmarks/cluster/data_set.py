"""The data set of these scenarios: large files and many of 100 KB, and their checksums."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster.limited_source import BUCKET, LimitedSource

MIB = 1024 * 1024


class Sizes(NamedTuple):
    """How many files there are, and how long they are in bytes."""

    large: int
    large_bytes: int
    small: int
    small_bytes: int = 100_000


FULL, QUICK = Sizes(4, 128 * MIB, 5000), Sizes(2, 16 * MIB, 100)
SPREAD, QUICK_SPREAD = Sizes(24, 16 * MIB, 2000), Sizes(24, MIB, 60)
"""So many files of like size that each worker owns about as much of them as the others."""


def fill(source: LimitedSource, sizes: Sizes, seed: int = 1) -> int:
    """Puts the files into the bucket; their bytes in all."""
    chance = random.Random(seed)
    for number in range(sizes.large):
        source.put(BUCKET, f"large/{number:03}.tar", chance.randbytes(sizes.large_bytes))
    for number in range(sizes.small):
        path = f"small/{number // 1000:03}/{number:06}.jpg"
        source.put(BUCKET, path, chance.randbytes(sizes.small_bytes))
    return sum(len(each.data) for each in source.buckets[BUCKET].values())


def write_sums(source: LimitedSource, file: Path) -> None:
    """What readers compare with: size and crc32 by path."""
    sums = {
        path: (len(each.data), zlib.crc32(each.data))
        for path, each in source.buckets[BUCKET].items()
    }
    file.write_text(json.dumps(sums))
