"""The kernel's FUSE protocol as bytes: opcodes, flags, structures.

Everything here is from `include/uapi/linux/fuse.h` (Linux 6.18, protocol 7.45), in native byte
order, which is what the device speaks. Names are the header's without `FUSE_`.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

PROTOCOL_MAJOR: Final = 7
PROTOCOL_MINOR: Final = 40
"""What we speak: 7.40 brought passthrough and RESEND. The kernel adapts to the smaller minor."""

PROTOCOL_MINOR_MINIMUM: Final = 31
"""Linux 5.4: the oldest whose INIT answer has `max_pages` and `map_alignment` (our 64 bytes)."""

ROOT_ID: Final = 1
"""Node id of the root directory (`FUSE_ROOT_ID`)."""

MIN_READ_BUFFER: Final = 8192
"""Smallest buffer that the device accepts for a read (`FUSE_MIN_READ_BUFFER`)."""

UNIQUE_RESEND: Final = 1 << 63
"""Set in `unique` of a request that is sent a second time (`FUSE_UNIQUE_RESEND`)."""


class Opcode(IntEnum):
    """What the kernel asks (`enum fuse_opcode`)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


class Notify(IntEnum):
    """What we tell the kernel unasked (`enum fuse_notify_code`)."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    RESEND = 7
    INC_EPOCH = 8


class InitFlag(IntFlag):
    """Capabilities of INIT; bits from 32 up travel in `flags2`."""

    ASYNC_READ = 1 << 0
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    INIT_EXT = 1 << 30
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    HAS_RESEND = 1 << 39


class OpenFlag(IntFlag):
    """What an answer to OPEN or OPENDIR allows the kernel (`FOPEN_*`)."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


IN_HEADER: Final = struct.Struct("=IIQQIIIHH")
"""`fuse_in_header`: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""

OUT_HEADER: Final = struct.Struct("=IiQ")
"""`fuse_out_header`: len, error (0 or -errno), unique (0 for a notification: error is its code)."""

INIT_IN: Final = struct.Struct("=IIIII")
"""`fuse_init_in` without its reserve: major, minor, max_readahead, flags, flags2."""

INIT_IN_SHORT: Final = struct.Struct("=IIII")
"""`fuse_init_in` before 7.36: no flags2."""

INIT_OUT: Final = struct.Struct("=IIIIHHIIHHII24x")
"""`fuse_init_out`: major, minor, max_readahead, flags, max_background, congestion_threshold,
max_write, time_gran, max_pages, map_alignment, flags2, max_stack_depth."""

ENTRY_OUT: Final = struct.Struct("=QQQQIIQQQQQQIIIIIIIIII")
"""`fuse_entry_out`: nodeid, generation, entry_valid, attr_valid, their nanoseconds; `fuse_attr`:
ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize,
flags."""

ATTR_OUT: Final = struct.Struct("=QIIQQQQQQIIIIIIIIII")
"""`fuse_attr_out`: attr_valid, attr_valid_nsec, dummy, then `fuse_attr`."""

OPEN_OUT: Final = struct.Struct("=QIi")
"""`fuse_open_out`: fh, open_flags, backing_id."""

READ_IN: Final = struct.Struct("=QQII")
"""`fuse_read_in` as far as a read-only server looks: fh, offset, size, read_flags."""

DIRENT: Final = struct.Struct("=QQII")
"""`fuse_dirent` before its name: ino, off, namelen, type."""

DIRENTPLUS: Final = struct.Struct("=QQQQIIQQQQQQIIIIIIIIIIQQII")
"""`fuse_direntplus` before its name: `fuse_entry_out`, then `fuse_dirent`."""

STATFS_OUT: Final = struct.Struct("=QQQQQIIII24x")
"""`fuse_statfs_out`: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding."""

INTERRUPT_IN: Final = struct.Struct("=Q")
"""`fuse_interrupt_in`: unique of the request to give up."""

INVAL_INODE_OUT: Final = struct.Struct("=Qqq")
"""`fuse_notify_inval_inode_out`: node id, offset (negative: attributes only), length (0: all)."""

INVAL_ENTRY_OUT: Final = struct.Struct("=QII")
"""`fuse_notify_inval_entry_out`: parent node id, name length, flags; the name and a zero follow."""


class Request(NamedTuple):
    """The header of one request from the kernel."""

    length: int
    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int


def parse_request(buffer: bytes | bytearray | memoryview) -> Request:
    """The header at the start of `buffer`. Raises struct.error when it is shorter than one."""
    length, opcode, unique, node, uid, gid, pid, _extensions, _padding = IN_HEADER.unpack_from(
        buffer
    )
    return Request(length, opcode, unique, node, uid, gid, pid)


def pack_reply(unique: int, payload: bytes = b"") -> bytes:
    """A successful answer."""
    return OUT_HEADER.pack(OUT_HEADER.size + len(payload), 0, unique) + payload


def pack_error(unique: int, code: int) -> bytes:
    """An answer that is an errno (given positive)."""
    return OUT_HEADER.pack(OUT_HEADER.size, -code, unique)


def _pack_notification(code: Notify, payload: bytes) -> bytes:
    return OUT_HEADER.pack(OUT_HEADER.size + len(payload), code, 0) + payload


def pack_inval_inode(node: int) -> bytes:
    """Tells the kernel to forget attributes and pages of a node."""
    return _pack_notification(Notify.INVAL_INODE, INVAL_INODE_OUT.pack(node, 0, 0))


def pack_inval_attributes(node: int) -> bytes:
    """Tells the kernel to forget the attributes of a node; ENOENT when it has no such node."""
    return _pack_notification(Notify.INVAL_INODE, INVAL_INODE_OUT.pack(node, -1, 0))


def pack_inval_entry(parent: int, name: bytes) -> bytes:
    """Tells the kernel to forget what a name in a directory stands for."""
    payload = INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0"
    return _pack_notification(Notify.INVAL_ENTRY, payload)


def pack_resend() -> bytes:
    """Asks the kernel to send again, as new, what was read from the device and not answered."""
    return _pack_notification(Notify.RESEND, b"")


def pack_inc_epoch() -> bytes:
    """Tells the kernel to look every name up again at its next use (7.44, Linux 6.16)."""
    return _pack_notification(Notify.INC_EPOCH, b"")


def padded_length(length: int) -> int:
    """Length of a directory record with its padding (`FUSE_DIRENT_ALIGN`: 8 bytes)."""
    return (length + 7) & ~7
