"""Opens, reads, mappings, evictions, new versions, kills and upgrades against a reference.

One mount serves all examples; each has a folder of its own. What is not synced may be seen or not;
after a sync the mount must show it.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.chaos.bed import BUCKET, Bed
from tests.chaos.mapper import Mapper
from tests.chaos.read_modes import CAN_UPGRADE
from tests.model.place import BLOCK_BYTES, KIB, until
from tests.model.reference import Content, new_content

SETTLE_SECONDS = 60.0
"""How soon after a sync its changes are seen on a busy machine."""
SIZES = (0, 1, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 77, 300 * KIB)
OFFSETS = (0, 1, 4095, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5)
LENGTHS = (1, 4096, BLOCK_BYTES, 1024 * KIB)
GONE = (errno.ESTALE, errno.ENOENT)

names = st.sampled_from("abcd")
sizes = st.sampled_from(SIZES)
offsets = st.sampled_from(OFFSETS)
lengths = st.sampled_from(LENGTHS)
which = st.integers(0, 7)

_numbers = itertools.count(1)


@dataclass(eq=False)
class Handle:
    """A file that is open or mapped, and the versions it may be of."""

    name: str
    candidates: list[Content]
    fd: int = -1
    number: int = field(default_factory=lambda: next(_numbers))


@dataclass
class Surroundings:
    """What all examples share."""

    bed: Bed
    mapper: Mapper
    upgrade: Callable[[Bed], None]


class MountMachine(RuleBasedStateMachine):
    """One example."""

    surroundings: Surroundings

    def __init__(self) -> None:
        super().__init__()
        self.bed = self.surroundings.bed
        self.mapper = self.surroundings.mapper
        self.folder = f"m{next(_numbers)}"
        self.files: dict[str, Content] = {}
        self.before: dict[str, list[Content | None]] = {}
        """What else may be seen since the last sync, by name."""
        self.handles: list[Handle] = []
        self.maps: list[Handle] = []
        # What rules there are follows from the drawn steps alone, never from what was seen: whether
        # an open saw a file that was just removed, or a page was a SIGBUS, may differ in a replay.
        self.opens = 0
        self.mappings = 0

    # -- the source ------------------------------------------------------------------------------

    def note(self, name: str) -> None:
        self.before.setdefault(name, []).append(self.files.get(name))

    @initialize(filled=st.lists(st.tuples(names, sizes), min_size=2, max_size=4))
    def begin(self, filled: list[tuple[str, int]]) -> None:
        self.bed.server.put(BUCKET, f"{self.folder}/z", b"keeps the folder")
        for name, size in filled:
            self.put(name, size)
        self.bed.sync("")
        self.sync()

    @rule(name=names, size=sizes)
    def put(self, name: str, size: int) -> None:
        self.note(name)
        self.files[name] = new_content(size)
        self.bed.server.put(BUCKET, f"{self.folder}/{name}", self.files[name].data)

    @precondition(lambda self: self.files)
    @rule(number=which)
    def overwrite(self, number: int) -> None:
        """Other bytes of the same length."""
        name = sorted(self.files)[number % len(self.files)]
        self.put(name, len(self.files[name].data))
        self.sync()

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.note(name)
        if self.files.pop(name, None) is not None:
            del self.bed.server.buckets[BUCKET][f"{self.folder}/{name}"]

    @rule()
    def sync(self) -> None:
        """A metadata sync; then the mount shows what the source holds."""
        self.bed.sync(self.folder)
        seen: dict[str, str] = {}

        def shown() -> bool:
            seen.clear()
            seen.update({n: self.differs(n) for n in "abcd"})
            return not any(seen.values())

        assert until(shown, SETTLE_SECONDS), seen
        self.before.clear()

    def differs(self, name: str) -> str:
        """How the mount differs from the source in one file; empty when it does not."""
        wanted = self.files.get(name)
        try:
            data = (self.bed.top / self.folder / name).read_bytes()
        except OSError as error:
            right = wanted is None and error.errno == errno.ENOENT
            return "" if right else repr(error)
        if wanted is None:
            return "is still there"
        return "" if data == wanted.data else f"{len(data)} bytes, {data[:8].hex()}"

    # -- readers ---------------------------------------------------------------------------------

    def possible(self, name: str) -> list[Content | None]:
        return [self.files.get(name), *self.before.get(name, [])]

    @rule(name=names)
    def open(self, name: str) -> None:
        self.opens += 1
        possible = self.possible(name)
        contents = [c for c in possible if c is not None]
        try:
            fd = os.open(self.bed.top / self.folder / name, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.ENOENT or None not in possible:
                raise AssertionError(f"open of {self.folder}/{name}: {error!r}") from error
            return
        assert contents, f"{name} is not there"
        size = os.fstat(fd).st_size
        handle = Handle(name, [c for c in contents if len(c.data) == size], fd)
        assert handle.candidates, f"{name} has {size} bytes"
        self.handles.append(handle)

    @rule(name=names, start=offsets, length=lengths)
    def open_and_read(self, name: str, start: int, length: int) -> None:
        known = len(self.handles)
        self.open(name)
        if len(self.handles) > known:
            self.read(known, start, length, fresh=True)

    @precondition(lambda self: self.opens)
    @rule(number=which, start=offsets, length=lengths)
    def read_again(self, number: int, start: int, length: int) -> None:
        self.read(number, start, length, fresh=number % 2 == 0)

    @precondition(lambda self: self.opens)
    @rule(number=which, start=offsets, length=lengths, fresh=st.booleans())
    def read(self, number: int, start: int, length: int, fresh: bool) -> None:
        if not self.handles:
            return
        handle = self.handles[number % len(self.handles)]
        if fresh:
            os.posix_fadvise(handle.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        data = b""
        try:
            while piece := os.pread(handle.fd, length - len(data), start + len(data)):
                data += piece
        except OSError as error:
            # What the kernel had before the bytes that are gone is read still, and no end of file.
            self.check(handle, data, start, len(data))
            if error.errno not in GONE or handle.candidates == [self.files.get(handle.name)]:
                raise AssertionError(f"read of {self.folder}/{handle.name}: {error!r}") from error
        else:
            self.check(handle, data, start, length)
        size = os.fstat(handle.fd).st_size
        assert all(len(c.data) == size for c in handle.candidates), f"{handle.name}: {size} bytes"

    def check(self, handle: Handle, data: bytes, start: int, length: int) -> None:
        fits = [c for c in handle.candidates if c.data[start : start + length] == data]
        what = f"{handle.name} at {start}: {len(data)} of {length} bytes"
        assert fits, f"{what} of no version that it may be ({self.possible_sizes(handle)})"
        handle.candidates = fits

    def possible_sizes(self, handle: Handle) -> list[int]:
        return [len(c.data) for c in handle.candidates]

    @precondition(lambda self: self.opens)
    @rule(number=which)
    def close(self, number: int) -> None:
        self.opens -= 1
        if self.handles:
            os.close(self.handles.pop(number % len(self.handles)).fd)

    @precondition(lambda self: self.files)
    @rule(number=which)
    def map(self, number: int) -> None:
        """Maps a file whose version is known."""
        self.sync()
        name = sorted(self.files)[number % len(self.files)]
        if not self.files[name].data:
            return
        self.mappings += 1
        handle = Handle(name, [self.files[name]])
        assert self.mapper.map(handle.number, self.bed.top / self.folder / name)
        self.maps.append(handle)

    @precondition(lambda self: self.mappings)
    @rule(number=which, start=offsets)
    def page(self, number: int, start: int) -> None:
        if not self.maps:
            return
        handle = self.maps[number % len(self.maps)]
        data = self.mapper.page(handle.number, start, 4096)
        if data is None:
            self.maps.clear()
            left = self.files.get(handle.name) is not handle.candidates[0]
            assert left, f"SIGBUS at {start} of {handle.name}, which did not change"
            return
        self.check(handle, data, start, 4096)

    # -- what must not be noticed ----------------------------------------------------------------

    @rule(name=st.none() | names)
    def evict(self, name: str | None) -> None:
        path = self.folder if name is None else f"{self.folder}/{name}"
        with suppress(FileNotFoundError):
            self.bed.evict(path)

    @rule(wait=st.booleans())
    def kill_server(self, wait: bool) -> None:
        """Without a wait, what comes next meets a mount whose server is just being started."""
        pid = self.bed.record.server_pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if wait:
            assert until(lambda: self.bed.record.server_pid != pid)

    @precondition(lambda self: CAN_UPGRADE)
    @rule()
    def upgrade(self) -> None:
        self.surroundings.upgrade(self.bed)

    def teardown(self) -> None:
        try:
            self.sync()
        finally:
            for handle in self.handles:
                os.close(handle.fd)
            for handle in self.maps:
                self.mapper.unmap(handle.number)
