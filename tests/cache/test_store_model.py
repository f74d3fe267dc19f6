"""Random use, damage, stops and crashes of a store against what its objects are known to hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluidpy.cache.cached_files import CachedFiles
from fluidpy.cache.cached_object import CachedObject
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheError, CacheFullError
from tests.cache.conftest import BLOCK, content_of, crash, key_of, on_disk, reconcile

SIZES = [0, 1, BLOCK, 3 * BLOCK + 5, 3 * BLOCK, 12 * BLOCK, 9 * BLOCK + 1]
numbers = st.integers(0, len(SIZES) - 1)


def _alter(path: str) -> None:
    with open(path, "r+b") as stream:
        stream.write(b"not the bytes that were there")
        stream.truncate(os.fstat(stream.fileno()).st_size)


def _cut(path: str) -> None:
    os.truncate(path, os.stat(path).st_size // 2)


class StoreMachine(RuleBasedStateMachine):
    """Each object's bytes are a function of its number, so the model is that function."""

    @initialize(two=st.booleans())
    def begin(self, two: bool) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="fluidpy-cache-model-"))
        quotas = [24 * BLOCK, 40 * BLOCK] if two else [40 * BLOCK]
        self.tiers = [
            TierDefinition(str(self.root / f"tier{n}"), quota) for n, quota in enumerate(quotas)
        ]
        self.boot = self.step = 0
        self.others = CachedFiles(str(self.root / "tier0" / "index.sqlite"), "0")
        self.open()

    def open(self) -> None:
        self.store = BlockStore.open(self.tiers, block_bytes=BLOCK, clean_token=str(self.boot))
        self.store.table.open_limit = 4
        self.store.room._wake_demotion = lambda: None
        if self.boot and self.others._boot != str(self.boot):
            self.others.close()
            self.others = CachedFiles(self.others.index, str(self.boot))
        self.held: list[CachedObject] = []
        self.reserved: list[tuple[CachedObject, int, int, bool]] = []

    def item(self, number: int) -> CachedObject:
        return self.store.create(key_of(number), SIZES[number])

    def teardown(self) -> None:
        if hasattr(self, "store"):
            try:
                self.store.close()
                self.others.close()
            finally:
                shutil.rmtree(self.root)

    @rule(number=numbers, at=st.floats(0, 1), length=st.integers(1, 8))
    def reserve(self, number: int, at: float, length: int) -> None:
        size = SIZES[number]
        start = int(at * size) // BLOCK * BLOCK
        try:
            item = self.item(number)
            for begin, end in item.missing(start, min(size, start + length * BLOCK)):
                if not any(o is item and b < end and begin < e for o, b, e, _ in self.reserved):
                    item.reserve(begin, end)
                    self.reserved.append((item, begin, end, False))
        except CacheFullError:
            pass

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), part=st.booleans())
    def write(self, data: st.DataObject, part: bool) -> None:
        at = data.draw(st.integers(0, len(self.reserved) - 1))
        item, start, end, _ = self.reserved[at]
        number = next(n for n in range(len(SIZES)) if key_of(n) == item.key)
        stop = min(end, start + BLOCK) if part else end
        try:
            item.write(start, content_of(number, item.size)[start:stop])
        except CacheError:
            item.abandon(start, end)
            del self.reserved[at]
            return
        self.reserved[at] = (item, start, end, True)

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), keep=st.booleans())
    def finish(self, data: st.DataObject, keep: bool) -> None:
        item, start, end, written = self.reserved.pop(
            data.draw(st.integers(0, len(self.reserved) - 1))
        )
        if not (keep and written):
            item.abandon(start, end)
            return
        try:
            item.commit(start, end)
        except CacheError:
            item.abandon(start, end)

    @rule(number=numbers)
    def fill(self, number: int) -> None:
        try:
            item = self.item(number)
            busy = [r for r in self.reserved if r[0] is item]
            for begin, end in [] if busy else item.missing(0, item.size):
                item.reserve(begin, end)
                item.write(begin, content_of(number, item.size)[begin:end])
                item.commit(begin, end)
        except CacheFullError:
            pass

    @rule(number=numbers)
    def evict(self, number: int) -> None:
        self.store.evict(key_of(number))

    @rule(number=numbers, on=st.booleans())
    def pin(self, number: int, on: bool) -> None:
        self.store.pin(key_of(number), on and number < 4)

    @rule(number=numbers)
    def hold(self, number: int) -> None:
        found = self.store.get(key_of(number))
        if found is not None:
            found.acquire()
            self.held.append(found)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1))).release()

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule()
    def demote(self) -> None:
        for tier in self.store.table.tiers[:-1]:
            self.store._demotion.lower(tier)

    @rule()
    def scrub(self) -> None:
        self.store.scrub(8 * BLOCK)

    @rule(number=numbers, how=st.sampled_from([_alter, _cut, os.unlink]))
    def damage(self, number: int, how: Callable[[str], None]) -> None:
        found = self.store.get(key_of(number))
        if found is None or not found.path or any(r[0] is found for r in self.reserved):
            return
        how(found.path)

    @rule(boot=st.booleans())
    def reopen(self, boot: bool) -> None:
        self.let_go()
        self.store.close()
        self.boot += boot
        self.open()

    @rule(boot=st.booleans())
    def crash(self, boot: bool) -> None:
        crash(self.store)
        self.boot += boot
        self.open()

    @rule()
    def lose_index(self) -> None:
        crash(self.store)
        (self.root / "tier0" / "index.sqlite").unlink()
        self.open()

    def let_go(self) -> None:
        for item, start, end, _ in self.reserved:
            item.abandon(start, end)
        for item in self.held:
            item.release()
        self.reserved, self.held = [], []

    @rule()
    def settle(self) -> None:
        """With nobody using anything, the account is what the disk says."""
        self.let_go()
        for number in range(len(SIZES)):
            found = self.store.get(key_of(number))
            if found is not None:
                found.missing(0, found.size)
        self.store.flush()
        self.store._reconciliation._next = 0
        reconcile(self.store)
        usage = self.store.usage()
        assert all(tier.used == tier.kept for tier in usage)
        counted = sum(tier.used for tier in usage)
        taken = on_disk(*(Path(tier.directory) for tier in self.tiers))
        items = [self.store.get(key_of(n)) for n in range(len(SIZES))]
        surplus = any(f.surplus for item in items if item for f in item.files())
        assert counted >= taken if surplus else counted == taken

    @invariant()
    def quotas_hold(self) -> None:
        if not hasattr(self, "store"):
            return
        for tier in self.store.usage():
            assert 0 <= tier.used <= tier.quota_bytes
            assert min(tier.kept, tier.reserved, tier.unlinked) >= 0
        if not self.reserved and not self.held:
            assert sum(tier.reserved + tier.unlinked for tier in self.store.usage()) == 0

    @invariant()
    def bytes_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        # One a step, so that the others stay as cold and as doubtful as the rules left them.
        self.step += 1
        number = self.step % len(SIZES)
        found = self.store.get(key_of(number))
        if found is not None:
            self.compare(found, content_of(number, SIZES[number]))

    @invariant()
    def others_are_given_right_bytes(self) -> None:
        """Another process never gets a wrong or incomplete file, whatever the owner just did."""
        if not hasattr(self, "store"):
            return
        for number, size in enumerate(SIZES):
            fd = self.others.open_complete(key_of(number), size)
            if fd is not None:
                with open(fd, "rb") as stream:
                    assert stream.read() == content_of(number, size)

    def compare(self, found: CachedObject, content: bytes) -> None:
        start = 0
        for hole, end in [*found.missing(0, found.size), (found.size, found.size)]:
            while start < hole:
                with found.lease(start) as (fd, offset, length):
                    stop = min(hole, start + length)
                    assert os.pread(fd, stop - start, offset) == content[start:stop]
                start = stop
            start = end


StoreMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# Each of hundreds of openings makes 256 folders, which some file systems take their time for.
TestStoreModel = pytest.mark.timeout(240)(StoreMachine.TestCase)
