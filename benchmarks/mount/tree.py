"""The data that all systems serve: a plain directory and the same files in a bucket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mount.reading import digest
from benchmarks.single.bench import MIB, Bench

FILE_BYTES = 100_000
_FOLDER_FILES = 100
_PUT_FILES = 1000
"""Objects put at once; they are in memory meanwhile."""
_MODIFIED = 1_700_000_000


@dataclass(frozen=True)
class Sizes:
    """Bytes of the large file, how many small files, bytes of each file read in parallel."""

    large_bytes: int
    small_files: int
    parallel_bytes: int
    parallel_files: int = 8


FULL = Sizes(1024 * MIB, 10_000, 64 * MIB)
QUICK = Sizes(32 * MIB, 300, 16 * MIB)


@dataclass(frozen=True)
class Tree:
    """A bucket, a plain directory with the same files, and what the files are.

    `groups` are the paths by what they are for (large, small, parallel); `digests` the sha256 of
    each group's bytes in that order.
    """

    bucket: str
    plain: Path
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def check(self, root: Path) -> None:
        """Reads every file below `root`. Raises RuntimeError when a byte differs."""
        for group, paths in self.groups.items():
            if digest(root, paths) != self.digests[group]:
                raise RuntimeError(f"the {group} files below {root} have other bytes")


def make_tree(bench: Bench, bucket: str, sizes: Sizes) -> Tree:
    """Writes random files into a plain directory and puts them into the bucket."""
    plain = bench.directory / "machines" / "plain"
    plain.mkdir()
    groups = {
        "large": ("large.bin",),
        "parallel": tuple(f"part-{number}.bin" for number in range(sizes.parallel_files)),
        "small": tuple(
            f"class_{number // _FOLDER_FILES:03d}/image_{number:05d}.jpg"
            for number in range(sizes.small_files)
        ),
    }
    _write(plain, groups["large"], sizes.large_bytes)
    _write(plain, groups["parallel"], sizes.parallel_bytes)
    _write(plain, groups["small"], FILE_BYTES)
    os.sync()
    _put(bench, bucket, plain, [*groups["large"], *groups["parallel"]], at_once=1)
    _put(bench, bucket, plain, groups["small"], at_once=_PUT_FILES)
    digests = {group: digest(plain, paths) for group, paths in groups.items()}
    return Tree(bucket, plain, groups, digests)


def _write(plain: Path, paths: tuple[str, ...], size: int) -> None:
    for path in paths:
        target = plain / path
        target.parent.mkdir(exist_ok=True)
        with target.open("wb", buffering=0) as stream:
            for start in range(0, size, 16 * MIB):
                stream.write(os.urandom(min(16 * MIB, size - start)))
        os.utime(target, (_MODIFIED, _MODIFIED))


def _put(
    bench: Bench, bucket: str, plain: Path, paths: list[str] | tuple[str, ...], *, at_once: int
) -> None:
    bench.bucket(bucket)
    for start in range(0, len(paths), at_once):
        part = paths[start : start + at_once]
        bench.server.put_objects(bucket, {path: (plain / path).read_bytes() for path in part})
