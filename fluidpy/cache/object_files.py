"""The files of one object version, and who uses them: what eviction and accounting have to know."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fluidpy.cache.accounting import TierAccount
from fluidpy.cache.cache_file import CacheFile, Descriptor
from fluidpy.cache.presence import blocks_touched

if TYPE_CHECKING:
    from fluidpy.cache.file_table import FileTable
    from fluidpy.cache.room import RoomMaker


class _Leftover(NamedTuple):
    """A file that left the cache while in use: its bytes count until nobody uses it."""

    account: TierAccount
    bytes: int
    descriptors: list[Descriptor]
    held: bool


class Part(NamedTuple):
    """The piece of a range that lies in one file: `[start, end)` in the file, its blocks."""

    file: CacheFile
    base: int
    start: int
    end: int
    mask: int


class ObjectFiles:
    """An object of `size` bytes under `key`, in blocks of `block_bytes`, and its cache files."""

    __slots__ = ("__weakref__", "_files", "_holds", "_leftovers", "_recent", "block_bytes", "key",
                 "pinned", "room", "segment_bytes", "size", "table")  # fmt: skip

    def __init__(
        self, table: FileTable, room: RoomMaker, key: bytes, size: int, segment_bytes: int
    ) -> None:
        self.table = table
        self.room = room
        self.key = key
        self.size = size
        self.block_bytes = table.block_bytes
        self.segment_bytes = segment_bytes
        """Length of the files the object is kept in, in bytes; 0: in one file."""
        self.pinned = False
        self._files: dict[int, CacheFile] = {}
        self._holds = 0
        self._leftovers: list[_Leftover] = []
        self._recent: deque[CacheFile] | None = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.key.hex()}, size={self.size}, complete={self.complete})"
        )

    # What is there.

    @property
    def file_count(self) -> int:
        """How many files the object has when complete."""
        return max(1, -(-self.size // self.segment_bytes)) if self.segment_bytes else 1

    @property
    def complete(self) -> bool:
        """Whether all bytes are present and none has to be verified first."""
        files = self._files
        if not self.segment_bytes:
            return (file := files.get(0)) is not None and file.complete
        return len(files) == self.file_count and all(file.complete for file in files.values())

    @property
    def suspect(self) -> bool:
        """Whether blocks have to be verified before use (call `verify` in a thread first)."""
        return any(file.unverified for file in self._files.values())

    @property
    def present_bytes(self) -> int:
        """Bytes on disk of the blocks that are present."""
        return sum(file.bytes_of(file.present) for file in self._files.values())

    @property
    def on_disk(self) -> bool:
        """Whether any file of the object exists."""
        return any(file.on_disk for file in self._files.values())

    @property
    def path(self) -> str:
        """Path of the cache file (of the first segment); "" while there is none."""
        file = self._files.get(0)
        if file is None or file.tier is None or not file.on_disk:
            return ""
        return f"{file.tier.definition.directory}/objects/{file.name}"

    def files(self) -> list[CacheFile]:
        """The files there are, in the order of their bytes."""
        return [self._files[number] for number in sorted(self._files)]

    def file_at(self, number: int) -> CacheFile:
        """The state of a file by number; a new state when there is none."""
        file = self._files.get(number)
        if file is None:
            name = self.key.hex()
            name = f"{name[:2]}/{name}"
            length = self.size
            if self.segment_bytes:
                name = f"{name}.{number}"
                length = min(self.segment_bytes, self.size - number * self.segment_bytes)
            file = self._files[number] = CacheFile(name, number, length, self.block_bytes)
        return file

    def parts(self, start: int, end: int) -> list[Part]:
        """The pieces of `[start, end)`, one a file. Raises ValueError outside the object."""
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"range {start}-{end} is not within the object's {self.size} bytes")
        if not self.segment_bytes:
            mask = blocks_touched(start, end, self.block_bytes)
            return [Part(self.file_at(0), 0, start, end, mask)] if mask else []
        found = []
        while start < end:
            number = start // self.segment_bytes
            base = number * self.segment_bytes
            stop = min(end, base + self.segment_bytes)
            mask = blocks_touched(start - base, stop - base, self.block_bytes)
            found.append(Part(self.file_at(number), base, start - base, stop - base, mask))
            start = stop
        return found

    def uses(self, file: CacheFile) -> bool:
        """Whether the file is held, being filled, read by a thread or moved: not to be evicted."""
        if file.reserved or file.moving or file.users:
            return True
        if not self._holds:
            return False
        return not self.segment_bytes or (self._recent is not None and file in self._recent)

    def _holds_file(self, file: CacheFile) -> bool:
        recent = self._recent is not None and file in self._recent
        return self._holds > 0 and (not self.segment_bytes or recent)

    def leave_behind(self, file: CacheFile, account: TierAccount, freed: int) -> None:
        """Takes over an unlinked file's bytes and descriptors until nobody uses them."""
        descriptors = [d for d in (file.reader, file.writer) if d is not None]
        account.unlinked += freed
        held = self._holds_file(file) or self.key in self.table.leases
        self._leftovers.append(_Leftover(account, freed, descriptors, held))
        self.settle()

    def settle(self) -> None:
        """Lets go of what left the cache and is not used any more."""
        if self._leftovers:
            self._leftovers = [left for left in self._leftovers if not self._let_go(left)]
        self.keep_active()

    def _let_go(self, left: _Leftover) -> bool:
        in_use = self._holds or self.key in self.table.leases
        if (left.held and in_use) or any(d.users for d in left.descriptors):
            return False
        for descriptor in left.descriptors:
            descriptor.close()
        left.account.unlinked -= left.bytes
        return True

    def keep_active(self) -> None:
        """Keeps the object in memory while it is in use."""
        files = self._files.values()
        if self._holds or self._leftovers or any(f.reserved or f.users for f in files):
            self.table.active[self.key] = self
        else:
            self.table.active.pop(self.key, None)

    def drop_if_empty(self, file: CacheFile) -> None:
        """Removes a file without any present block that nobody uses."""
        if file.present or file.reserved or self.uses(file):
            return
        if file.on_disk and file.length:
            self.table.drop(self, file)
        elif not file.on_disk:
            file.tier = None
