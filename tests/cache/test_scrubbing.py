"""What a run of the scrubber costs those who read: a bounded part of a file, and no pages."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest

from tests.cache.conftest import BLOCK, OpenStore, add, key_of, read_back

SIZE = 20 * BLOCK + 17


def _in_memory(path: str) -> list[bool]:
    """For each page of the file, whether the kernel has it; asking brings none."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as area:
        pages = (ctypes.c_ubyte * -(-len(area) // mmap.PAGESIZE))()
        first = (ctypes.c_char * len(area)).from_buffer(area)
        failed = ctypes.CDLL(None).mincore(ctypes.byref(first), ctypes.c_size_t(len(area)), pages)
        del first  # it keeps the area open
        assert failed == 0
        return [bool(page & 1) for page in pages]


def _forget(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_a_large_file_is_verified_in_several_runs(open_store: OpenStore) -> None:
    store = open_store(1 << 20)
    add(store, 1, SIZE)
    reports = [store.scrub(6 * BLOCK) for _ in range(4)]
    assert [report.read_bytes for report in reports] == [6 * BLOCK] * 3 + [2 * BLOCK + 17]
    assert [report.files for report in reports] == [0, 0, 0, 1]
    assert [report.finished for report in reports] == [False, False, False, True]


def test_damage_at_the_end_of_a_large_file_is_found_in_its_last_run(open_store: OpenStore) -> None:
    store = open_store(1 << 20)
    item = add(store, 1, SIZE)
    with open(item.path, "r+b") as stream:
        stream.seek(SIZE - 3)
        stream.write(b"abc")
    item.files()[0].stamp = None  # a flip of the medium changes no time
    damaged = [store.scrub(6 * BLOCK).damaged for _ in range(4)]
    assert damaged == [(), (), (), (key_of(1),)]
    assert store.get(key_of(1)) is None


def test_the_scrubber_neither_drops_nor_brings_pages(open_store: OpenStore) -> None:
    store = open_store(1 << 20)
    item = add(store, 1, SIZE)
    _forget(item.path)
    if any(_in_memory(item.path)):
        pytest.skip("the file system of this directory is memory")
    assert store.scrub(2 * SIZE).read_bytes == SIZE
    assert not any(_in_memory(item.path))
    read_back(item)
    assert all(_in_memory(item.path))
    store.scrub(2 * SIZE)
    assert all(_in_memory(item.path))
