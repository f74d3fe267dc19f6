"""An open file whose bytes are gone, at the source and from the cache: some pages are left."""

from __future__ import annotations

import errno
import os
import random
import signal

import pytest

from tests.chaos.bed import BUCKET, Bed, new_bed
from tests.chaos.read_modes import every_mode, options_of
from tests.model.place import until

SIZE = 196_685
LEFT = 23 * 4096
"""Pages before it stay in the kernel, as when memory ran short."""


def make_stale(bed: Bed, name: str) -> int:
    """An open file of which only the pages before `LEFT` are anywhere still."""
    path = bed.top / name
    fd = os.open(path, os.O_RDONLY)
    assert len(os.pread(fd, SIZE, 0)) == SIZE
    bed.server.put(BUCKET, name, b"new")
    bed.sync("")
    assert until(lambda: path.read_bytes() == b"new")
    server = bed.record.server_pid  # it holds the old version's cache file for a while
    os.kill(server, signal.SIGKILL)
    assert until(lambda: bed.record.server_pid != server)
    bed.evict("")
    os.posix_fadvise(fd, LEFT, 0, os.POSIX_FADV_DONTNEED)
    return fd


@every_mode(quick="no-open")
def test_a_read_ends_before_bytes_that_are_gone_and_the_next_one_says_so(read_mode: str) -> None:
    """The size stays what it was, and nobody is told of an end of file before it."""
    with new_bed(**options_of(read_mode)) as bed:
        data = random.Random(1).randbytes(SIZE)
        bed.server.put(BUCKET, "a", data)
        bed.sync("")
        fd = make_stale(bed, "a")
        with open(fd, "rb", buffering=0) as file:
            for _ in range(2):
                assert os.pread(fd, 65536, 65536) == data[65536:LEFT]
                with pytest.raises(OSError) as caught:
                    os.pread(fd, 65536, LEFT)
                assert caught.value.errno == errno.ESTALE
                assert os.fstat(fd).st_size == SIZE
            with pytest.raises(OSError) as caught:
                file.readall()
            assert caught.value.errno == errno.ESTALE
