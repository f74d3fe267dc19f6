"""Opens that are passed through, against a kernel that knows what it would answer with EIO."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse import passthrough_files
from fluidpy.fuse.backed_files import MOST_HELD, BackedFiles
from fluidpy.fuse.backing_ids import BackingIds
from fluidpy.fuse.cache_leases import CacheLeases
from fluidpy.fuse.device import Device
from fluidpy.fuse.direct_files import OpensCacheFiles
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import OPEN_OUT, OpenFlag
from fluidpy.fuse.node_ids import NodeIds
from fluidpy.fuse.passthrough_files import (
    LEAVE_SECONDS,
    MOST_OFFERED,
    SWEEP_SECONDS,
    PassthroughFiles,
    fds_offered,
)
from fluidpy.fuse.read_modes import LARGE_FILE_BYTES
from fluidpy.fuse.requests_in_flight import RequestsInFlight, TroubleLog
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.storage.under_storage import Kind
from tests.fuse.test_fuse_backing_ids import FakeKernel

ROWS = (5, 6, 7)
SIZES = {5: 100_000, 6: 100_000, 7: LARGE_FILE_BYTES}
"""A large file gets an id also where there are enough, and another file leaves for it."""


def entry_of(row: int) -> Entry:
    return Entry(row, 1, b"%d" % row, Kind.FILE, SIZES[row], 0, None, row, b"v", 0, True)


class FakeLoop:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, callback))

    def call_from_thread(self, callback: Callable[[], None]) -> None:
        callback()

    def wait(self, seconds: float) -> None:
        limit = self.now + seconds
        while self.timers and min(self.timers, key=lambda timer: timer[0])[0] <= limit:
            timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1]()
        self.now = limit


class FakeLeases:
    """Tells at once that a file has left."""

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self.on_gone: Callable[[Iterable[int]], None] = lambda _rows: None

    def take(self, row: int, ino: int) -> None:
        self.taken.add(row)

    def give_back(self, row: int) -> None:
        self.taken.discard(row)

    def use(self, row: int) -> None:
        assert row in self.taken


@dataclass
class Inode:
    opens: int = 0
    backing: int | None = None


class Bed:
    """A server's part, the holder's, and a kernel with a cache of names."""

    def __init__(self, limit: int, offered: int = MOST_OFFERED) -> None:
        self.loop, self.leases = FakeLoop(), FakeLeases()
        self.most_offered = offered
        self.fake = FakeKernel()
        self.ids = BackingIds(-1, self.fake.ioctl)
        self.whole: set[int] = set()
        self.retired: set[int] = set()
        self.asked: list[int] = []
        self.state = b"1"
        self.names: dict[int, int] = {}
        self.inodes: dict[int, Inode] = {}
        self.opened: list[int] = []
        self.answers: dict[int, int | bytes] = {}
        self.told: list[Any] = []
        self.cache_files: list[tuple[int, int]] = []
        self._unique = 0
        self.start(limit)

    def start(self, limit: int) -> None:
        """A server begins, the first or another one."""
        self.loop.timers.clear()
        device = cast("Device", self)
        self.server = PassthroughFiles(
            cast("EventLoop", self.loop),
            device,
            cast("CatalogReader", self),
            RequestsInFlight(device, TroubleLog("test")),
            plain=self.Plain(self),
            view=self.View(self),
            leases=cast("CacheLeases", self.leases),
            tell=self.tell,
            limit=limit,
            most_held=2,
            most_offered=self.most_offered,
        )
        self.leases.on_gone = self.server.leave
        self.server.take_over(*self.ids.state())
        self.node_ids = NodeIds()
        self.node_ids.pass_through(self.server.shown, self.server.offer)

    # What the server sees.

    def get(self, row: int) -> Entry:
        self.asked.append(row)
        return entry_of(row)._replace(live=row not in self.retired)

    def mark(self) -> bytes:
        return self.state

    @dataclass
    class View:
        bed: Bed

        def open(self, entry: EntryTuple) -> int | None:
            if entry[0] not in self.bed.whole:
                return None
            fd = os.memfd_create("cache-file", os.MFD_CLOEXEC)
            self.bed.cache_files.append((fd, os.fstat(fd).st_ino))
            return fd

    @dataclass
    class Plain:
        bed: Bed

        def open(self, unique: int, node: int) -> None:
            self.bed.reply(unique, OPEN_OUT.pack(0, OpenFlag.KEEP_CACHE, 0))

        def release(self, unique: int, node: int) -> None:
            self.bed.reply(unique, b"")

    def tell(self, message: dict[str, Any], fds: tuple[int, ...]) -> None:
        if "backingOpen" in message:
            row = message["backingOpen"]["row"]
            try:
                answer = {"row": row, "id": self.ids.open(row, fds[0])}
            except OSError as error:
                answer = {"row": row, "errno": error.errno}
            self.told.append(answer)
        elif "backingClose" in message:
            self.ids.close(message["backingClose"]["rows"])
        else:
            self.ids.forgotten(message["forgotten"]["rows"])

    def reply(self, unique: int, payload: bytes = b"") -> None:
        self.answers[unique] = payload

    def reply_after_others(self, unique: int) -> None:
        self.reply(unique)

    def reply_error(self, unique: int, code: int) -> None:
        self.answers[unique] = code

    def invalidate_entry(self, _parent: int, name: bytes) -> None:
        self.names.pop(int(name), None)

    def check_node(self, node: int, on_absent: Callable[[], None]) -> None:
        inode = self.inodes.get(node)
        if node not in self.names.values() and (inode is None or not inode.opens):
            on_absent()

    # What happens.

    def evict(self, row: int) -> None:
        self.whole.discard(row)
        if row in self.leases.taken:
            self.leases.on_gone([row])

    def look_up(self, row: int) -> int:
        """The node that the name leads to; the server is asked where the kernel has none."""
        if row not in self.names:
            self.names[row] = self.node_ids.of_lookup(entry_of(row))
            self.server.looked_up(entry_of(row))
        return self.names[row]

    def held_fds(self) -> int:
        """Cache files that were opened and are open still."""
        return sum(_inode(fd) == ino for fd, ino in self.cache_files)

    def open(self, row: int, meanwhile: Callable[[], None]) -> None:
        """As `path_openat` does it, twice at most."""
        for attempt in range(2):
            if attempt:
                self.names.pop(row, None)
            node = self.look_up(row)
            meanwhile()
            answer = self.ask_to_open(node)
            if answer == errno.ESTALE:
                continue
            assert isinstance(answer, bytes), answer
            self.finish_open(node, answer)
            return
        raise AssertionError("ESTALE comes to the program")

    def ask_to_open(self, node: int) -> int | bytes:
        self._unique += 1
        self.server.open(self._unique, node)
        while self.told:
            self.server.on_backing(self.told.pop(0))
        return self.answers.pop(self._unique)

    def finish_open(self, node: int, answer: bytes) -> None:
        _handle, flags, number = OPEN_OUT.unpack(answer)
        inode = self.inodes.setdefault(node, Inode())
        if flags & OpenFlag.PASSTHROUGH:
            assert node & 1
            assert number in self.fake.open, "the id was closed"
            assert inode.backing in (None, number), "one inode, two ids"
            inode.backing = number
        else:
            assert not node & 1, "one inode in two modes"
        inode.opens += 1
        self.opened.append(node)

    def close_one(self) -> None:
        if self.opened:
            node = self.opened.pop(0)
            inode = self.inodes[node]
            inode.opens -= 1
            if not inode.opens:
                inode.backing = None


def _inode(fd: int) -> int | None:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


STEP = st.one_of(
    st.tuples(
        st.just("open"),
        st.sampled_from(ROWS),
        st.sampled_from(
            [
                *["", "evict", "fetch", "fetch evict", "evict fetch", "restart", "large"],
                "fetch forget look-up",
            ]
        ),
    ),
    st.tuples(
        st.sampled_from(["evict", "fetch", "use", "forget"]), st.sampled_from(ROWS), st.just("")
    ),
    st.tuples(st.sampled_from(["close", "restart"]), st.just(0), st.just("")),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.4, 1.0, 3.0]), st.just("")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40), st.sampled_from([1, 2, 100]))
def test_no_open_fails_and_no_inode_is_opened_in_two_ways(
    steps: list[tuple[str, Any, str]], limit: int
) -> None:
    bed = Bed(limit)

    def do(step: str, row: int) -> None:
        if step == "evict":
            bed.evict(row)
        elif step == "fetch":
            bed.whole.add(row)
        elif step == "use":
            bed.whole.add(row)
            bed.open(row, lambda: None)
        elif step == "large":
            do("use", 7)
        elif step == "restart":
            bed.server.close()
            bed.start(limit)
        elif step == "forget":
            bed.names.pop(row, None)
        elif step == "look-up":
            bed.look_up(row)

    def do_all(names: list[str], row: int) -> None:
        for name in names:
            do(name, row)

    try:
        for step, value, meanwhile in steps:
            if step == "open":
                bed.open(value, partial(do_all, meanwhile.split(), value))
            elif step == "close":
                bed.close_one()
            elif step == "wait":
                bed.loop.wait(value)
            else:
                do(step, value)
            assert len(bed.server.shown) <= limit, "more ids than the bound stay"
        bed.loop.wait(LEAVE_SECONDS + 2 * SWEEP_SECONDS)
        assert len(bed.fake.open) == len(bed.ids) <= limit
        for _ in range(len(bed.opened)):
            bed.close_one()
        for row in ROWS:
            bed.evict(row)
        bed.names.clear()
        bed.loop.wait(5.0)
        bed.names.clear()
        bed.loop.wait(5.0)
        assert not bed.fake.open
        assert bed.ids.state() == ([], [])
        assert not bed.leases.taken
        assert not bed.held_fds()
    finally:
        bed.server.close()


def test_ids_above_the_bound_leave_also_when_their_server_is_killed() -> None:
    """A large file takes the place of a small one; the next server finds both."""
    bed = Bed(limit=1)
    try:
        for row in (5, 7):
            bed.whole.add(row)
            bed.open(row, lambda: None)
        assert len(bed.ids) == 2
        bed.server.close()
        bed.start(1)
        bed.loop.wait(LEAVE_SECONDS + 2 * SWEEP_SECONDS)
        assert len(bed.fake.open) == len(bed.ids) == 1
        bed.whole.add(5)
        bed.open(5, lambda: None)
    finally:
        bed.server.close()


def test_a_look_up_and_an_open_by_an_older_name_hold_one_file() -> None:
    """One program opens by the name as it was, while another looks it up anew."""
    bed = Bed(limit=100)
    try:
        older = bed.look_up(5)
        bed.loop.wait(2.0)  # that the name led to the plain node is no longer recent
        bed.whole.add(5)
        bed.names.clear()
        bed.look_up(5)
        assert bed.ask_to_open(older) == errno.ESTALE
        assert bed.held_fds() == 1
        bed.evict(5)
        bed.loop.wait(2.0)
        assert not bed.held_fds()
    finally:
        bed.server.close()


def test_a_file_that_came_anew_is_the_one_held_for_the_next_open() -> None:
    bed = Bed(limit=100)
    try:
        bed.whole.add(5)
        bed.look_up(5)
        bed.names.clear()
        assert bed.look_up(5) & 1
        assert bed.held_fds() == 1
        assert len(bed.cache_files) == 2
        (fd, ino) = bed.cache_files[-1]
        assert _inode(fd) == ino, "the older one is held"
    finally:
        bed.server.close()
    assert not bed.held_fds()


def known_open(bed: Bed, row: int) -> int:
    """Opens a file until an open is known, and the file held to be fetched; its node."""
    bed.whole.add(row)
    for _ in range(3):
        bed.open(row, lambda: None)
    bed.asked.clear()
    return bed.look_up(row)


def test_opens_of_a_known_file_ask_the_catalog_once_for_each_of_its_states() -> None:
    bed = Bed(limit=100)
    try:
        node = known_open(bed, 5)
        assert isinstance(bed.ask_to_open(node), bytes)
        assert not bed.asked
        bed.state = b"2"
        assert isinstance(bed.ask_to_open(node), bytes)
        assert bed.asked == [5]
        bed.retired.add(5)
        bed.state = b"3"
        assert bed.ask_to_open(node) == errno.ESTALE
    finally:
        bed.server.close()


def test_a_catalog_whose_state_cannot_be_told_is_asked_for_each_open() -> None:
    bed = Bed(limit=100)
    try:
        bed.state = b""
        node = known_open(bed, 5)
        bed.retired.add(5)
        assert bed.ask_to_open(node) == errno.ESTALE
    finally:
        bed.server.close()


def test_a_known_file_that_left_the_cache_is_not_opened_for_long() -> None:
    bed = Bed(limit=100)
    try:
        node = known_open(bed, 5)
        bed.evict(5)
        bed.loop.wait(0.75)
        assert bed.ask_to_open(node) == errno.ESTALE
    finally:
        bed.server.close()


def test_files_held_to_be_fetched_are_let_go_of_when_they_leave_the_cache() -> None:
    bed = Bed(limit=100)
    try:
        bed.whole.add(5)
        for _ in range(20):  # each look-up is followed by an open: the next one is expected
            bed.open(5, lambda: None)
            bed.names.clear()
        assert bed.held_fds() == 1
        bed.evict(5)
        assert bed.held_fds() == 0
    finally:
        bed.server.close()


def test_a_file_whose_id_is_on_its_way_out_is_not_held_again() -> None:
    """A queued open came after the place had been given to a large file: nobody would have said
    when the file left the cache, and its bytes stayed on the disk, uncounted.
    """
    bed = Bed(limit=1)
    try:
        bed.whole.update(ROWS)
        for _ in range(2):
            bed.open(5, lambda: None)
        node = bed.look_up(5)
        bed.open(7, lambda: None)
        assert isinstance(bed.ask_to_open(node), bytes)
        assert bed.held_fds() == 0
        bed.loop.wait(5.0)
        bed.evict(5)
        assert bed.held_fds() == 0
    finally:
        bed.server.close()


def test_a_file_is_fetched_before_its_open_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(limit=100)
    done: list[str] = []
    monkeypatch.setattr(passthrough_files, "BackedFiles", never_in_memory)
    try:
        bed.server.close()
        bed.start(100)
        node = known_open(bed, 5)
        monkeypatch.setattr(os, "posix_fadvise", lambda *_: done.append("fetched"))
        monkeypatch.setattr(bed, "reply", lambda unique, payload=b"": done.append("answered"))
        bed.server.open(1, node)
        assert done == ["fetched", "answered"]
    finally:
        bed.server.close()


def never_in_memory(view: OpensCacheFiles, limit: int) -> BackedFiles:
    return BackedFiles(view, limit, lambda _fd: False)


def test_look_ups_hold_no_more_files_than_fds_are_left_for_them() -> None:
    bed = Bed(limit=100, offered=1)
    try:
        bed.whole.update(ROWS)
        for row in ROWS:
            assert bed.look_up(row) & 1
            assert bed.held_fds() == 1
        for row in ROWS:
            bed.open(row, lambda: None)
    finally:
        bed.server.close()


@pytest.mark.parametrize("most", [32, 512, 2000, MOST_HELD + MOST_OFFERED])
def test_look_ups_that_no_open_may_follow_take_the_lesser_part_of_the_fds(most: int) -> None:
    assert 16 <= fds_offered(most) <= MOST_OFFERED
    assert most - fds_offered(most) >= most // 2
    if most > MOST_HELD:
        assert most - fds_offered(most) == MOST_HELD
