"""A million names: in the bucket, and as a plain directory of sparse files of the same size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench
from benchmarks.single.seaweed_metadata import fill_bucket

NAME_BYTES = 16
"""Size of each file; what `fill_bucket` gives its objects."""
FOLDER_TIME = 1_700_000_000


@dataclass(frozen=True)
class Names:
    """`folders` × `files` names, as `fill_bucket` forms them."""

    folders: int
    files: int

    @property
    def count(self) -> int:
        """How many files."""
        return self.folders * self.files

    def by_folder(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Each folder's name and its files' names."""
        for folder in range(self.folders):
            numbers = range(folder * self.files, (folder + 1) * self.files)
            yield f"class_{folder:04d}", (f"image_{number:08d}.jpg" for number in numbers)


def make_names(bench: Bench, bucket: str, names: Names) -> Tree:
    """Fills the bucket and the plain directory; both hold the same names and sizes."""
    fill_bucket(bench.server, bucket, names.folders, names.files, bench.directory)
    bench.buckets.add(bucket)
    plain = bench.directory / "machines" / "plain-names"
    plain.mkdir()
    for folder, files in names.by_folder():
        _write_folder(plain / folder, files)
    os.sync()
    return Tree(bucket, plain)


def _write_folder(folder: Path, files: Iterator[str]) -> None:
    folder.mkdir()
    directory = os.open(folder, os.O_RDONLY)
    try:
        for name in files:
            fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=directory)
            os.ftruncate(fd, NAME_BYTES)
            os.close(fd)
    finally:
        os.close(directory)
