"""Memory that the kernel copies into: where it begins, and that it is empty."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidpy.aligned_memory import HUGE_PAGE_BYTES, in_one_piece, page_aligned


@pytest.mark.parametrize(
    ("make", "boundary"), [(page_aligned, mmap.PAGESIZE), (in_one_piece, HUGE_PAGE_BYTES)]
)
@pytest.mark.parametrize("size", [1, 4096, 100_000, 1024 * 1024])
def test_memory_begins_at_its_boundary_and_is_written_to_its_end(
    make: Callable[[int], memoryview], boundary: int, size: int
) -> None:
    memory = make(size)
    assert len(memory) == size
    assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % boundary == 0
    assert memory == bytes(size)
    content = os.urandom(size)
    memory[:] = content
    assert memory == content


def test_a_file_is_read_into_one_piece_past_the_kernels_pages(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    try:
        fd = os.open(tmp_path / "file", os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("the file system here reads through the kernel's pages only")
    memory = in_one_piece(1024 * 1024)
    assert os.preadv(fd, (memory[:102_400],), 0) == len(content)
    os.close(fd)
    assert memory[: len(content)] == content
