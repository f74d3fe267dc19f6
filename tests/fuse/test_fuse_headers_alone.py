"""Who reads headers only of files that are passed through does not have all of them fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.single.page_cache import cached_bytes, forget
from fluidpy.fuse.pages_in_memory import all_in_memory
from tests.fuse.reading_bed import Bed, as_root, held_by_server
from tests.fuse.test_fuse_serving import until

FILES = 12


def in_memory(path: Path) -> bool:
    """Whether all pages of a file are, or are being fetched."""
    with path.open("rb") as stream:
        told = all_in_memory(stream.fileno())
    if told is None:
        pytest.skip("the kernel here does not tell what is in memory")
    return told


def read_cold(bed: Bed, length: int) -> int:
    """Opens all files, of which the kernel has forgotten everything, and reads so much of each; how
    many of them are in memory then.
    """
    cached = list(bed.tier.rglob("objects/*/*"))
    assert len(cached) == FILES
    for path in cached:
        forget(path)
    if any(cached_bytes(path) for path in cached):
        pytest.skip("the file system here, such as tmpfs, keeps its pages")
    for number in range(FILES):
        with (bed.mount_point / f"small/{number}").open("rb", buffering=0) as stream:
            assert len(stream.read(length)) == min(length, 30_000 + number)
    found = sum(map(in_memory, cached))
    assert not (bed.mount_point / "absent").exists()  # asked for after those files were closed
    return found


@as_root
def test_files_are_fetched_for_who_reads_them_and_not_for_who_reads_headers(bed: Bed) -> None:
    bed.mount("passthrough")
    bed.ask("load", paths=["/small"])

    def all_held() -> bool:
        read_cold(bed, 100_000)
        return len(set(held_by_server(bed))) == FILES

    assert until(all_held)
    assert until(lambda: read_cold(bed, 100) == 0)
    assert until(lambda: read_cold(bed, 100_000) == FILES and read_cold(bed, 100) > 0)
