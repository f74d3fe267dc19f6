"""One sparse file of the cache: what is known of it, and the calls that create, open and stamp it.

A file holds an object, or one segment of it, at the bytes' own offsets, and has its full length
from the start. A block once present is never written again and nothing is ever punched: whoever
reads or maps the file sees each present block unchanged until the file leaves, whole, by unlink.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from array import array
from typing import Final, NamedTuple

from crc32c import crc32c

from fluidpy.cache.accounting import TierAccount
from fluidpy.cache.directory import TierDirectory
from fluidpy.cache.presence import allocated_bytes, block_count, range_mask
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheDirectoryError, CacheError, CacheFullError

FILE_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
"""For every open of a cache file: never through a link, never inherited."""
READ_BYTES: Final = 8 * 1024 * 1024
"""How much is read at once to be checked, in bytes."""


class Tier:
    """A level of the store as it runs: its definition, open directory, account and index id."""

    __slots__ = ("account", "definition", "directory", "evicting", "id", "position")

    def __init__(self, position: int, definition: TierDefinition) -> None:
        self.position = position
        self.definition = definition
        self.directory = TierDirectory(definition.directory)
        self.account = TierAccount(definition.quota_bytes, self.directory.objects)
        self.evicting = False
        self.id = 0


class Stamp(NamedTuple):
    """How a file looked when it was last known to be right (times in nanoseconds)."""

    ino: int
    ctime: int
    mtime: int


def stamp_of(facts: os.stat_result) -> Stamp:
    """The stamp of a stat result."""
    return Stamp(facts.st_ino, facts.st_ctime_ns, facts.st_mtime_ns)


class Descriptor:
    """An open file shared by threads: closed when retired and the last user is done."""

    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0

    def close(self) -> None:
        """Closes it; the caller has made sure that nobody uses it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class CacheFile:
    """The state of one cache file; guarded by the store's lock.

    Sets of blocks are ints (`presence`): `present` may be read; `reserved` is being fetched;
    `written` was handed to `write` in a reservation under way; `garbage` lies on disk although
    not present (an abandoned write), and `surplus` bytes of such from before a restart;
    `unverified` is present but must be checked before use. A `copy` is kept by another worker too,
    and leaves before what is not.
    """

    __slots__ = (
        "block_bytes", "changed_chunks", "checked", "copy", "epoch", "garbage", "generation",
        "has_row", "last_use", "length", "moving", "name", "number", "on_disk", "present", "reader",
        "reserved", "serial", "staged", "stamp", "sums", "surplus", "tier",
        "unverified", "writer", "written",
    )  # fmt: skip

    def __init__(self, name: str, number: int, length: int, block_bytes: int) -> None:
        self.name = name
        self.number = number
        self.length = length
        self.block_bytes = block_bytes
        self.tier: Tier | None = None
        self.present = self.reserved = self.written = self.garbage = self.unverified = 0
        self.sums: array[int] | None = None
        self.staged: dict[int, int] = {}
        self.changed_chunks = 0
        self.stamp: Stamp | None = None
        self.reader: Descriptor | None = None
        self.writer: Descriptor | None = None
        self.epoch = self.serial = self.generation = self.last_use = self.surplus = 0
        self.on_disk = self.has_row = self.moving = self.copy = False
        self.checked = True

    @property
    def blocks(self) -> int:
        """How many blocks the file has."""
        return block_count(self.length, self.block_bytes)

    @property
    def full(self) -> bool:
        """Whether every block is present (verified or not)."""
        return self.on_disk and self.present == range_mask(0, self.blocks)

    @property
    def complete(self) -> bool:
        """Whether every block is present and may be used."""
        return self.full and not self.unverified

    @property
    def kept_bytes(self) -> int:
        """What the file takes on disk, reservations under way aside."""
        return self.bytes_of(self.present | self.garbage) + self.surplus

    @property
    def users(self) -> int:
        """Threads that are reading or writing the file by its descriptors right now."""
        reading = self.reader.users if self.reader else 0
        return reading + (self.writer.users if self.writer else 0)

    def bytes_of(self, mask: int) -> int:
        """Bytes on disk of a set of blocks."""
        return allocated_bytes(mask, self.length, self.block_bytes)

    def checksums(self) -> array[int]:
        """The crc32c of each block; zero where the block is not present."""
        if self.sums is None:
            self.sums = array("I", bytes(4 * self.blocks))
        return self.sums

    def forget_content(self) -> None:
        """Back to a file that is not there; reservations stay."""
        self.present = self.written = self.garbage = self.unverified = 0
        self.staged.clear()
        self.sums = self.stamp = self.reader = self.writer = None
        self.on_disk = self.has_row = False
        self.checked = True
        self.changed_chunks = self.surplus = 0
        self.epoch += 1

    def stat(self) -> os.stat_result | None:
        """The file by its name, links not followed; None when it is gone or not a file."""
        assert self.tier is not None
        try:
            facts = os.stat(
                self.name, dir_fd=self.tier.directory.objects, follow_symlinks=False
            )  # fmt: skip
        except OSError:
            return None
        return facts if stat.S_ISREG(facts.st_mode) else None

    def open(self, flags: int) -> Descriptor:
        """Opens the file, which exists. Raises CacheError when it does not open."""
        assert self.tier is not None
        return Descriptor(open_object(self.tier, self.name, flags))


def open_object(tier: Tier, name: str, flags: int) -> int:
    """A descriptor of an existing file of a tier. Raises CacheError."""
    try:
        return os.open(name, flags | FILE_FLAGS, dir_fd=tier.directory.objects)
    except OSError as error:
        raise storage_failure(f"{tier.definition.directory}/objects/{name}", error) from error


def create_object(tier: Tier, name: str, length: int) -> int:
    """A descriptor of a new, empty sparse file; whatever had the name is unlinked."""
    parent = tier.directory.objects
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE_FLAGS
    try:
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            os.unlink(name, dir_fd=parent)
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name[:2], 0o700, dir_fd=parent)
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            os.ftruncate(descriptor, length)
        except OSError:
            os.close(descriptor)
            os.unlink(name, dir_fd=parent)
            raise
    except OSError as error:
        raise storage_failure(f"{tier.definition.directory}/objects/{name}", error) from error
    return descriptor


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Writes all of `view` at `offset`, however little each call takes."""
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def sums_of(view: memoryview, block_bytes: int) -> list[int]:
    """The crc32c of each block of `view`; big blocks are summed without the interpreter's lock."""
    return [crc32c(view[at : at + block_bytes]) for at in range(0, len(view), block_bytes)]


def blocks_intact(fd: int, first: int, last: int, length: int, block_bytes: int,
                  expected: array[int]) -> bool:  # fmt: skip
    """Whether blocks `first` to `last` of a file have the checksums `expected` (from index 0).

    A block that cannot be read counts as damaged.
    """
    at_once = max(1, READ_BYTES // block_bytes)
    for begin in range(first, last, at_once):
        end = min(begin + at_once, last)
        want = min(end * block_bytes, length) - begin * block_bytes
        try:
            data = os.pread(fd, want, begin * block_bytes)
        except OSError:
            return False
        if len(data) != want:
            return False
        found = sums_of(memoryview(data), block_bytes)
        if array("I", found) != expected[begin - first : end - first]:
            return False
    return True


def storage_failure(path: str, error: OSError) -> CacheError:
    """The error of ours for a failed call on a cache file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheFullError(
            f"no space left for cache file {path}",
            cure="Free space on that disk, or lower the quota of the tier.",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CacheDirectoryError(
            f"cache file {path} cannot be written: {error.strerror}",
            cure="Make the cache directory writable again, or set another one.",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return CacheError(
            f"cache file {path}: too many open files", cure="Raise the limit (ulimit -n)."
        )
    return CacheError(
        f"cache file {path} failed: {error.strerror}",
        cure="Look at the disk's health (dmesg); the data is fetched again meanwhile.",
    )
