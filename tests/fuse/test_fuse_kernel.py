"""Packing against the bytes that the kernel's own structures have."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.client.protocol import RemoteEntry
from fluidpy.errors import MountError
from fluidpy.fuse import kernel
from fluidpy.fuse.attributes import (
    Attributes,
    mode_bits,
    node_of_row,
    pack_negative,
    row_of_node,
    split_seconds,
)
from fluidpy.fuse.directory_blocks import OFFSET_BASE, DirectoryBlock
from fluidpy.fuse.kernel import InitFlag
from fluidpy.fuse.negotiation import KernelOffer, negotiate, parse_offer
from fluidpy.storage.under_storage import Kind


def entry(row: int = 21, name: bytes = b"a.jpg", **changes: object) -> RemoteEntry:
    values = {
        "id": row,
        "parent": 1,
        "name": name,
        "kind": int(Kind.FILE),
        "size": 1000,
        "mtime_ns": 1_700_000_000_123_456_789,
        "mode": None,
        "ino": 9,
        "version": b"v",
        "mount": 0,
        "live": True,
        **changes,
    }
    return RemoteEntry(**values)  # type: ignore[arg-type]  # tests give right types by name


# Sizes that a C compiler gives for include/uapi/linux/fuse.h.
@pytest.mark.parametrize(
    ("structure", "size"),
    [
        (kernel.IN_HEADER, 40),
        (kernel.OUT_HEADER, 16),
        (kernel.INIT_OUT, 64),
        (kernel.ENTRY_OUT, 128),
        (kernel.ATTR_OUT, 104),
        (kernel.OPEN_OUT, 16),
        (kernel.DIRENT, 24),
        (kernel.DIRENTPLUS, 152),
        (kernel.STATFS_OUT, 80),
        (kernel.INVAL_INODE_OUT, 24),
        (kernel.INVAL_ENTRY_OUT, 16),
    ],
)
def test_structures_have_the_headers_sizes(structure: struct.Struct, size: int) -> None:
    assert structure.size == size


def test_an_entry_is_packed_as_the_header_lays_it_out() -> None:
    packed = Attributes(uid=1000, gid=100).pack_entry(entry(), 2.5, 3600)
    assert packed[:40] == struct.pack("=QQQQII", 42, 0, 2, 3600, 500_000_000, 0)
    assert packed[40:88] == struct.pack("=QQQQQQ", 9, 1000, 2, *([1_700_000_000] * 3))
    assert packed[88:] == struct.pack(
        "=IIIIIIIIII", *([123_456_789] * 3), 0o100444, 1, 1000, 100, 0, 4096, 0
    )


def test_attributes_are_packed_with_their_validity() -> None:
    packed = Attributes(0, 0).pack_attr(entry(kind=int(Kind.DIRECTORY), size=0), 10)
    assert packed[:16] == struct.pack("=QII", 10, 0, 0)
    mode, links = struct.unpack_from("=II", packed, 16 + 60)
    assert (mode, links) == (0o40555, 2)


def test_a_negative_entry_names_no_node() -> None:
    assert pack_negative(1.0) == struct.pack("=QQQQ", 0, 0, 1, 0) + bytes(96)


def test_errors_and_notifications_are_packed() -> None:
    assert kernel.pack_error(7, errno.EIO) == struct.pack("=IiQ", 16, -errno.EIO, 7)
    assert (
        kernel.pack_inval_entry(1, b"abc") == struct.pack("=IiQQII", 36, 3, 0, 1, 3, 0) + b"abc\0"
    )
    assert kernel.pack_inval_inode(42) == struct.pack("=IiQQqq", 40, 2, 0, 42, 0, 0)


@given(st.integers(1, 2**60))
def test_a_node_id_gives_its_row_back(row: int) -> None:
    assert row_of_node(node_of_row(row)) == row
    assert node_of_row(row) != 1 or row == 1


@given(st.sampled_from(list(Kind)), st.one_of(st.none(), st.integers(0, 0o7777)))
def test_no_mode_allows_writing(kind: Kind, mode: int | None) -> None:
    bits = mode_bits(kind, mode)
    if kind != Kind.SYMLINK:
        assert bits & 0o7222 == 0
        assert mode is not None or bits & 0o444 == 0o444


@given(st.floats(allow_nan=False))
def test_time_outs_are_bounded(seconds: float) -> None:
    whole, nanoseconds = split_seconds(seconds)
    assert 0 <= whole <= 3600
    assert 0 <= nanoseconds < 1_000_000_000


@given(
    st.lists(st.binary(min_size=1, max_size=255), max_size=60),
    st.integers(0, 20_000),
    st.booleans(),
)
def test_a_block_holds_whole_records_and_never_more_than_asked(
    names: list[bytes], limit: int, plus: bool
) -> None:
    entries = [entry(row, name) for row, name in enumerate(names, start=10)]
    block = DirectoryBlock(Attributes(0, 0))
    block.start(limit)
    if plus:
        block.add_plus(entries, 1, 1)
    else:
        block.add_plain(entries)
    content = bytes(block.content)
    assert len(content) <= limit
    head, found, position = (128 if plus else 0), [], 0
    while position < len(content):
        ino, offset, length, kind = struct.unpack_from("=QQII", content, position + head)
        start = position + head + 24
        found.append(content[start : start + length])
        assert (ino, kind) == (9, 8)
        assert offset == 9 + len(found) + OFFSET_BASE
        position = (start + length + 7) & ~7
    assert position == len(content)
    assert found == names[: len(found)]
    if len(found) < len(names):
        assert len(content) + head + 24 + len(names[len(found)]) + 7 >= limit - 7


def offer(minor: int = 45, flags: int = (1 << 64) - 1) -> KernelOffer:
    return KernelOffer(7, minor, 131072, InitFlag(flags))


def test_negotiation_takes_what_reading_needs() -> None:
    agreed, reply = negotiate(offer())
    fields = kernel.INIT_OUT.unpack(reply)
    assert fields[:3] == (7, 40, 131072)
    assert fields[4] >= 4096
    assert fields[8] * 4096 >= 1024 * 1024
    assert agreed.has(InitFlag.ASYNC_READ)
    assert agreed.has(InitFlag.PARALLEL_DIROPS)
    assert agreed.has(InitFlag.HAS_RESEND)
    assert not agreed.has(InitFlag.AUTO_INVAL_DATA)
    assert not agreed.has(InitFlag.HANDLE_KILLPRIV)
    assert fields[3] | fields[10] << 32 == agreed.flags


@given(st.integers(0, 2**64 - 1), st.integers(31, 60))
def test_nothing_is_taken_that_was_not_offered(flags: int, minor: int) -> None:
    agreed, _ = negotiate(offer(minor, flags))
    assert agreed.flags & ~flags == 0
    assert agreed.minor <= minor


def test_an_old_kernel_is_named_with_a_cure() -> None:
    with pytest.raises(MountError, match=r"FUSE 7\.23.*Linux 5\.4"):
        negotiate(offer(23))


def test_both_forms_of_the_kernels_offer_are_read() -> None:
    long = struct.pack("=IIIII", 7, 45, 4096, 1, 1 << 7) + bytes(44)
    assert parse_offer(long) == KernelOffer(7, 45, 4096, InitFlag.ASYNC_READ | InitFlag.HAS_RESEND)
    short = struct.pack("=IIII", 7, 31, 4096, 1)
    assert parse_offer(short) == KernelOffer(7, 31, 4096, InitFlag.ASYNC_READ)
