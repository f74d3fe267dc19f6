"""Files that the cache keeps in segments, each evicted by itself, read through a mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidpy.fuse.read_modes import ReadMode
from tests.fuse.reading_bed import MIB, MODES, Bed
from tests.fuse.test_fuse_serving import until
from tests.fuse.ways_to_read import at_random, by_direct_io, by_mmap, by_sendfile

QUOTA_BYTES = 16 * MIB
"""An eighth of it is 2 MiB: a file of 6 MiB and a bit has four segments."""


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, marks=() if mode is ReadMode.PASSTHROUGH else pytest.mark.slow)
        for mode in MODES
    ],
)
def test_segments_are_one_file_however_they_are_read(bed: Bed, mode: ReadMode) -> None:
    bed.quota_bytes = QUOTA_BYTES
    bed.mount(mode)
    path, content = bed.mount_point / "large", (bed.source / "large").read_bytes()
    assert until(lambda: bed.same("large") and len(segments(bed)) == 4)
    assert_right(path, content)
    assert not bed.is_passed_through("large")
    with path.open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        middle = 3 * MIB - 5
        assert stream.read(middle) == content[:middle]
        assert bed.ask("evict", path="/large")["objects"] == 1
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert stream.read(1 << 30) == content[middle:]
        assert os.pread(stream.fileno(), middle, 0) == content[:middle]
    assert_right(path, content)
    assert not bed.is_passed_through("large")
    assert bed.record().read_mode == mode
    if mode is ReadMode.PASSTHROUGH:  # the other files are
        assert until(lambda: bed.is_passed_through("small/3"))


def segments(bed: Bed) -> list[Path]:
    """Cache files of the large file, which it has once the worker trusts its age."""
    bed.ask("load", paths=["/large"])
    return list(bed.tier.rglob("objects/*/*.?"))


def assert_right(path: Path, content: bytes) -> None:
    ways: list[Callable[[Path], bytes]] = [
        Path.read_bytes,
        at_random,
        by_mmap,
        by_sendfile,
        by_direct_io,
    ]
    for way in ways:
        assert way(path) == content, way
