"""Which blocks of a file are there: sets of block numbers as bits of an int, and ranges of bytes.

All functions are pure. A set is an int whose bit n stands for block n; Python's big ints make
union, difference and counting as fast as memory, whatever the size of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

ALLOCATION_BYTES: Final = 4096
"""Space is counted in pages of this many bytes (the allocation unit of ext4, xfs and tmpfs)."""


def block_count(length: int, block_bytes: int) -> int:
    """How many blocks a file of `length` bytes has."""
    return -(-length // block_bytes)


def range_mask(first: int, last: int) -> int:
    """The set of the blocks `first` up to, not including, `last`."""
    return ((1 << (last - first)) - 1) << first if last > first else 0


def blocks_touched(start: int, end: int, block_bytes: int) -> int:
    """The set of the blocks that hold a byte of `[start, end)`."""
    return range_mask(start // block_bytes, block_count(end, block_bytes)) if end > start else 0


def members(mask: int) -> Iterator[int]:
    """The block numbers of a set, rising."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def runs(mask: int) -> Iterator[tuple[int, int]]:
    """The set as half-open runs `(first, last)` of neighbours, rising."""
    position = 0
    while mask:
        skipped = (mask & -mask).bit_length() - 1
        mask >>= skipped
        length = (~mask & (mask + 1)).bit_length() - 1
        position += skipped
        yield position, position + length
        mask >>= length
        position += length


def allocated_bytes(mask: int, length: int, block_bytes: int) -> int:
    """Bytes of disk that these blocks of a file of `length` bytes take, in whole pages."""
    if not mask:
        return 0
    full = mask.bit_count() * block_bytes
    last = block_count(length, block_bytes) - 1
    if mask >> last & 1:
        tail = length - last * block_bytes
        full -= block_bytes - -(-tail // ALLOCATION_BYTES) * ALLOCATION_BYTES
    return full


def segment_bytes_for(size: int, quota_bytes: int, block_bytes: int, longest_bytes: int = 0) -> int:
    """Length of the files an object is kept in, in bytes; 0 means one file of its own size.

    Objects larger than an eighth of the tier are kept in segments of 1 GiB, each evicted whole; in
    a tier so small that 1 GiB is itself more than an eighth, in the largest power of two of blocks
    that is not. With `longest_bytes` (a power of two; 0: any), no file is longer than that.
    """
    share = quota_bytes // 8
    if longest_bytes:
        share = min(share, longest_bytes)
    if size <= max(share, block_bytes):
        return 0
    segment = 1 << 30
    while segment > share and segment > block_bytes:
        segment //= 2
    return max(segment, block_bytes)
