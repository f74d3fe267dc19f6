"""INIT: what the kernel offers, what we take. A pure function, so that every choice is a test."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, Final

from fluidpy.errors import MountError
from fluidpy.fuse.kernel import (
    INIT_IN,
    INIT_IN_SHORT,
    INIT_OUT,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    PROTOCOL_MINOR_MINIMUM,
    InitFlag,
)

LARGEST_READ_BYTES: Final = 1024 * 1024
"""Most bytes of one READ: the kernel's default limit (`fs.fuse.max_pages_limit`: 256 pages)."""

MAX_PAGES: Final = LARGEST_READ_BYTES // os.sysconf("SC_PAGE_SIZE")
"""The same in pages, as INIT says it."""

MAX_WRITE_BYTES: Final = 128 * 1024
"""Nothing is written, but the kernel wants room for a request of this size in each buffer of ours;
it also bounds SETXATTR (64 KiB), which we refuse."""

MAX_BACKGROUND: Final = 16384
"""Reads ahead in the kernel's queue; few would let one slow source stall the readers of another."""

WANTED: Final = (
    InitFlag.ASYNC_READ
    | InitFlag.ASYNC_DIO
    | InitFlag.DO_READDIRPLUS
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.INIT_EXT
    | InitFlag.HAS_EXPIRE_ONLY
    | InitFlag.HAS_RESEND
    | InitFlag.NO_OPEN_SUPPORT
    | InitFlag.PASSTHROUGH
)
"""Not AUTO_INVAL_DATA: a node is one version, its pages never go stale. Not HANDLE_KILLPRIV: it
speaks of writes."""


@dataclass(frozen=True, slots=True)
class KernelOffer:
    """What INIT says of the kernel; `max_readahead` in bytes."""

    major: int
    minor: int
    max_readahead: int
    flags: InitFlag


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a connection was agreed to be; it outlives the server that agreed."""

    minor: int
    max_readahead: int
    flags: int

    def has(self, flag: InitFlag) -> bool:
        """Whether both sides agreed on a capability."""
        return bool(self.flags & flag)

    def to_wire(self) -> dict[str, Any]:
        """Plain values for the holder, which keeps them."""
        return asdict(self)


def parse_offer(body: bytes | memoryview) -> KernelOffer:
    """The kernel's offer; of an old kernel's shorter message, what is there."""
    if len(body) >= INIT_IN.size:
        major, minor, max_readahead, flags, flags2 = INIT_IN.unpack_from(body)
    else:
        (major, minor, max_readahead, flags), flags2 = INIT_IN_SHORT.unpack_from(body), 0
    return KernelOffer(major, minor, max_readahead, InitFlag(flags | flags2 << 32))


def negotiate(offer: KernelOffer, stack_depth: int = 1) -> tuple[Negotiated, bytes]:
    """What is agreed, and the answer's bytes.

    `stack_depth` is how deep the mount stacks on the cache's file system if files are passed
    through: 1 on a plain one, 2 on overlayfs. At 2 (`FILESYSTEM_MAX_STACK_DEPTH`) no overlay can be
    made of the mount in turn.

    Raises MountError for a kernel that is too old. A newer major is answered with ours; the kernel
    then sends INIT again.
    """
    if offer.major < PROTOCOL_MAJOR or (
        offer.major == PROTOCOL_MAJOR and offer.minor < PROTOCOL_MINOR_MINIMUM
    ):
        raise MountError(
            f"the kernel speaks FUSE {offer.major}.{offer.minor}, and fluidpy needs "
            f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR_MINIMUM}",
            cure="Use Linux 5.4 or later, or read the Dataset by its fluid:// URL.",
        )
    minor = min(offer.minor, PROTOCOL_MINOR)
    flags = int(WANTED & offer.flags)
    reply = INIT_OUT.pack(
        PROTOCOL_MAJOR,
        minor,
        offer.max_readahead,
        flags & 0xFFFFFFFF,
        MAX_BACKGROUND,
        MAX_BACKGROUND * 3 // 4,
        MAX_WRITE_BYTES,
        1,  # time_gran: mtimes are kept to the nanosecond
        MAX_PAGES,
        0,
        flags >> 32,
        stack_depth if flags & InitFlag.PASSTHROUGH else 0,
    )
    return Negotiated(minor, offer.max_readahead, flags), reply
