"""The holder's table of backing ids against a kernel that keeps count."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.fuse.backing_ids import BACKING_CLOSE, BACKING_MAP, BACKING_OPEN, BackingIds


class FakeKernel:
    """Gives ids, never one twice, and remembers which are open."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.last = 0
        self.failure = 0

    def ioctl(self, _device: int, request: int, argument: bytearray) -> int:
        if request == BACKING_CLOSE:
            self.open.remove(struct.unpack("=I", argument)[0])
            return 0
        assert request == BACKING_OPEN
        _fd, flags, padding = BACKING_MAP.unpack(argument)
        assert (flags, padding) == (0, 0)
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        self.last += 1
        self.open.add(self.last)
        return self.last


def test_the_requests_are_the_kernels() -> None:
    def write(number: int, size: int) -> int:  # _IOW of asm-generic/ioctl.h
        return 1 << 30 | size << 16 | 229 << 8 | number

    assert write(1, BACKING_MAP.size) == BACKING_OPEN
    assert write(2, 4) == BACKING_CLOSE


def test_a_failure_leaves_no_trace(tmp_path: Path) -> None:
    kernel = FakeKernel()
    ids = BackingIds(-1, kernel.ioctl)
    (tmp_path / "f").write_bytes(b"x")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        kernel.failure = errno.ELOOP
        with pytest.raises(OSError, match="symbolic links") as raised:
            ids.open(5, fd)
        assert raised.value.errno == errno.ELOOP
        kernel.failure = 0
        assert ids.open(5, fd) == 1
        backings, retired = ids.state()
        assert json.loads(json.dumps(backings)) == [[5, 1, os.fstat(fd).st_ino]]
        assert retired == []
    finally:
        os.close(fd)


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "close", "forgotten"]), st.integers(2, 6)), max_size=60
    )
)
def test_a_row_never_has_two_ids_before_the_kernel_forgot_the_first(
    steps: list[tuple[str, int]],
) -> None:
    kernel = FakeKernel()
    ids = BackingIds(-1, kernel.ioctl)
    fd = os.open("/dev/null", os.O_RDONLY)
    inodes: dict[int, set[int]] = {}
    """Ids that an inode of a row may have been opened with since the kernel forgot it last."""
    try:
        for step, row in steps:
            if step == "open":
                if row in ids.state()[1]:
                    with pytest.raises(OSError, match="not forgotten"):
                        ids.open(row, fd)
                else:
                    inodes.setdefault(row, set()).add(ids.open(row, fd))
            elif step == "close":
                ids.close([row])
            elif row in ids.state()[1]:
                ids.forgotten([row])
                inodes.pop(row)
            assert all(len(used) <= 1 for used in inodes.values())
            backings, retired = ids.state()
            assert {b.id for b in backings} == kernel.open
            assert not {b.row for b in backings} & set(retired)
            assert len(ids) == len(backings)
    finally:
        os.close(fd)
