"""The readers whose times are taken: the same work through the mount and by URL."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

Reader: TypeAlias = Callable[[], int]
"""Reads one part of the data set and returns how many bytes its files have."""


def mount_readers(directory: Path) -> Mapping[str, Reader]:
    """Readers of plain files below a mounted directory."""
    import pandas

    _take_interrupts_ourselves()

    def images() -> int:
        return sum(len(path.read_bytes()) for path in sorted(directory.glob("images/*/*.jpg")))

    def tables() -> int:
        path = directory / "tables" / "samples.parquet"
        pandas.read_parquet(path)
        return path.stat().st_size

    def shards() -> int:
        size = 0
        for path in sorted(directory.glob("shards/*.tar")):
            with tarfile.open(path) as archive:
                _read_members(archive)
            size += path.stat().st_size
        return size

    return {"images": images, "tables": tables, "shards": shards}


def url_readers(dataset: str, file: Path) -> Mapping[str, Reader]:
    """Readers of `fluid://` URLs; `file` declares the Dataset."""
    import fsspec
    import pandas

    _take_interrupts_ourselves()
    options = {"file": str(file)}
    files = fsspec.filesystem("fluid", **options)

    def images() -> int:
        return sum(
            len(data) for data in files.cat(files.glob(f"{dataset}/images/*/*.jpg")).values()
        )

    def tables() -> int:
        url = f"fluid://{dataset}/tables/samples.parquet"
        pandas.read_parquet(url, storage_options=options)
        return int(files.size(url))

    def shards() -> int:
        size = 0
        for path in files.glob(f"{dataset}/shards/*.tar"):
            with files.open(path) as stream, tarfile.open(fileobj=stream) as archive:
                _read_members(archive)
            size += files.size(path)
        return size

    return {"images": images, "tables": tables, "shards": shards}


def _take_interrupts_ourselves() -> None:
    """pyarrow puts signal handlers of its own in the place of ours while it reads; an interrupt at
    the moment of a change ends the process at once, and nothing is removed."""
    import pyarrow

    pyarrow.enable_signal_handlers(False)


def _read_members(archive: tarfile.TarFile) -> None:
    for member in archive:
        stream = archive.extractfile(member)
        if stream is not None:
            stream.read()


def timed(readers: Mapping[str, Reader]) -> dict[str, tuple[float, int]]:
    """Runs each reader once: seconds and bytes, by its name."""
    found = {}
    for name, reader in readers.items():
        begin = time.perf_counter()
        size = reader()
        found[name] = (time.perf_counter() - begin, size)
    return found
