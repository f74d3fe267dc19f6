"""Fills: one fetch for all who want a block, whoever comes and goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from fluidpy.namespace.catalog import Entry
from fluidpy.namespace.definition import MountDefinition
from fluidpy.namespace.listing_flights import Located
from fluidpy.storage.under_storage import Kind, MountSource
from fluidpy.telemetry.counters import Counters
from fluidpy.worker.fills import FAILURES_LOGGED, QUIET_SECONDS, FillTable
from fluidpy.worker.object_fill import ObjectFill
from fluidpy.worker.parts import MountLimits
from fluidpy.worker.passed_bytes import BytesLeftError, memfd_of
from tests.worker.held_storage import HeldStorage

BLOCK = 4096
KEY = b"k" * 16


class Dataset:
    """What a fill needs of a Dataset."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.peers = None
        self.changed: list[Located] = []

    def source_changed(self, located: Located) -> None:
        self.changed.append(located)


class Bench:
    """A fill table over a real store and a held source."""

    def __init__(
        self, directory: Path, quota: int, size: int, requests: int, deadline_seconds: float = 60.0
    ) -> None:
        self.storage = HeldStorage(os.urandom(size))
        self.store = BlockStore.open(
            [TierDefinition(str(directory), quota)], block_bytes=BLOCK, clean_token="boot"
        )
        self.dataset = Dataset()
        self.table = FillTable(
            block_bytes=BLOCK,
            part_bytes=8 * BLOCK,
            limits_of=lambda _: MountLimits(requests, deadline_seconds),
        )
        entry = Entry(7, 1, b"f", Kind.FILE, size, 0, None, 7, b"1", 0, True)
        mount = MountDefinition("m", "/", MountSource("memory://"))
        self.located = Located(self.storage, mount, "f", entry)

    def fill(self, *, keep: bool = True) -> ObjectFill:
        size = len(self.storage.data)
        cached = (self.store.get(KEY) or self.store.create(KEY, size)) if keep else None
        return self.table.acquire(KEY, self.located, cached, self.dataset)

    def bytes_of(self, fill: ObjectFill, start: int, end: int) -> bytes:
        fd = memfd_of(fill.cached, start, end, fill.unkept.values())
        try:
            return os.pread(fd, end - start, 0)
        finally:
            os.close(fd)

    async def close(self) -> None:
        self.storage.let_go()
        await self.table.close(1.0)
        self.store.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "tier", 64 << 20, 64 * BLOCK + 100, 16)
    yield made
    await made.close()


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


async def test_many_readers_of_a_block_make_one_request(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    readers = [asyncio.create_task(fill.ensure(10, 20, soon())) for _ in range(50)]
    await bench.storage.asked(1)
    bench.storage.let_go()
    assert await asyncio.gather(*readers) == [[]] * 50
    assert bench.storage.reads == [(0, BLOCK)]
    assert bench.bytes_of(fill, 10, 20) == bench.storage.data[10:20]
    bench.table.release(fill)


async def test_two_handles_of_one_object_share_its_fill(bench: Bench) -> None:
    first, second = bench.fill(), bench.fill()
    assert first is second
    bench.table.release(first)
    await second.ensure(0, 100, soon())
    bench.table.release(second)


async def test_overlapping_ranges_fetch_each_block_once(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    first = asyncio.create_task(fill.ensure(0, 6 * BLOCK, soon()))
    await bench.storage.asked(1)
    second = asyncio.create_task(fill.ensure(4 * BLOCK, 12 * BLOCK, soon()))
    await bench.storage.asked(5)
    bench.storage.let_go()
    await asyncio.gather(first, second)
    blocks = [b for a, e in bench.storage.reads for b in range(a // BLOCK, -(-e // BLOCK))]
    assert sorted(blocks) == list(range(12))
    bench.table.release(fill)


async def test_parts_of_full_length_lie_at_multiples_of_it(bench: Bench) -> None:
    fill = bench.fill()
    parts = fill.parts(3 * BLOCK, 40 * BLOCK)
    assert [(part.start // BLOCK, part.end // BLOCK) for part in parts] == [
        (3, 8), (8, 16), (16, 24), (24, 32), (32, 40)
    ]  # fmt: skip
    await fill.wait(parts, soon())
    bench.table.release(fill)


async def test_a_reader_that_leaves_does_not_stop_the_fetch_of_others(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    leaves = asyncio.create_task(fill.ensure(0, BLOCK, soon()))
    stays = asyncio.create_task(fill.ensure(0, BLOCK, soon()))
    await bench.storage.asked(1)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    bench.storage.let_go()
    assert await stays == []
    assert bench.storage.reads == [(0, BLOCK)]
    bench.table.release(fill)


async def test_a_fetch_that_nobody_waits_for_any_more_is_kept(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    reader = asyncio.create_task(fill.ensure(0, BLOCK, soon()))
    await bench.storage.asked(1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    running = list(fill.running.values())
    bench.storage.let_go()
    await asyncio.wait({part.done for part in running}, timeout=60)
    assert fill.missing(0, BLOCK) == []
    bench.table.release(fill)


async def test_queued_parts_of_a_reader_that_left_are_not_fetched(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "tier", 64 << 20, 64 * BLOCK, requests=1)
    fill = bench.fill()
    bench.storage.held = True
    reader = asyncio.create_task(fill.ensure(0, 32 * BLOCK, soon()))
    await bench.storage.asked(1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    bench.storage.let_go()
    await fill.ensure(63 * BLOCK, 64 * BLOCK, soon())
    assert len(bench.storage.reads) == 2
    bench.table.release(fill)
    await bench.close()


async def test_each_waiter_gets_the_error_as_its_own_with_its_cause(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    readers = [asyncio.create_task(fill.ensure(0, BLOCK, soon())) for _ in range(3)]
    await bench.storage.asked(1)
    bench.storage.fail(SourceUnavailableError("the bucket burns", cure="Put it out."))
    errors = await asyncio.gather(*readers, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, SourceUnavailableError)
        assert str(error) == "the bucket burns. Put it out."
        assert isinstance(error.__cause__, SourceUnavailableError)
    assert bench.store.usage()[0].reserved == 0
    bench.storage.let_go()
    assert await fill.ensure(0, BLOCK, soon()) == []
    bench.table.release(fill)


async def test_a_passed_deadline_names_mount_and_path(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    with pytest.raises(SourceTimeoutError, match="mount 'm', 'f'"):
        await fill.ensure(0, BLOCK, asyncio.get_running_loop().time() + 0.02)
    bench.table.release(fill)


async def test_a_changed_object_is_told_and_refreshed(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    reader = asyncio.create_task(fill.ensure(0, BLOCK, soon()))
    await bench.storage.asked(1)
    bench.storage.fail(SourceChangedError("another version"))
    with pytest.raises(SourceChangedError):
        await reader
    assert bench.dataset.changed == [bench.located]
    bench.table.release(fill)


async def test_a_short_answer_is_an_error_and_never_kept(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.short_by = 1
    with pytest.raises(SourceError, match="gave 4095 bytes of 4096"):
        await fill.ensure(0, BLOCK, soon())
    bench.storage.short_by = 0
    await fill.ensure(0, BLOCK, soon())
    assert bench.bytes_of(fill, 0, BLOCK) == bench.storage.data[:BLOCK]
    bench.table.release(fill)


async def test_a_range_larger_than_the_tier_is_served_and_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "tier", 4 * BLOCK, 16 * BLOCK, 16)
    fill = bench.fill()
    unkept = await fill.ensure(0, 16 * BLOCK, soon())
    assert unkept
    fd = memfd_of(fill.cached, 5, 16 * BLOCK, unkept)
    assert os.pread(fd, 1 << 20, 0) == bench.storage.data[5:]
    os.close(fd)
    assert bench.dataset.counters.bytes_not_kept > 0
    bench.table.release(fill)
    await bench.close()


async def test_bytes_that_leave_before_they_are_copied_are_not_taken_for_zeros(
    bench: Bench,
) -> None:
    fill = bench.fill()
    assert not await fill.ensure(0, 2 * BLOCK, soon())
    bench.store.evict(KEY)
    with pytest.raises(BytesLeftError):
        memfd_of(fill.cached, 0, 2 * BLOCK, [])
    assert not await fill.ensure(0, 2 * BLOCK, soon())
    assert bench.bytes_of(fill, 0, 2 * BLOCK) == bench.storage.data[: 2 * BLOCK]
    bench.table.release(fill)


async def test_an_object_without_a_version_is_served_from_memory(bench: Bench) -> None:
    fill = bench.fill(keep=False)
    for start, end in [(0, 10), (100, 5000), (3, BLOCK)]:
        unkept = await fill.ensure(start, end, soon())
        fd = memfd_of(None, start, end, unkept)
        assert os.pread(fd, 1 << 20, 0) == bench.storage.data[start:end]
        os.close(fd)
    assert bench.storage.reads == [(0, BLOCK), (BLOCK, 2 * BLOCK)]
    bench.table.release(fill)


async def test_read_ahead_uses_and_returns_its_budget(bench: Bench) -> None:
    fill = bench.fill()
    budget = bench.table.ahead_allowance
    bench.storage.held = True
    parts = fill.parts(0, 16 * BLOCK, owner=1, ahead=True)
    assert bench.table.ahead_allowance == budget - 16 * BLOCK
    await bench.storage.asked(len(parts))
    bench.storage.let_go()
    await asyncio.wait({part.done for part in parts}, timeout=60)
    assert bench.table.ahead_allowance == budget
    bench.table.release(fill)


async def test_queued_read_ahead_goes_with_its_reader(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "tier", 64 << 20, 64 * BLOCK, requests=1)
    fill = bench.fill()
    bench.storage.held = True
    parts = fill.parts(0, 64 * BLOCK, owner=1, ahead=True)
    await bench.storage.asked(1)
    fill.withdraw(1)
    assert sum(part.done.done() for part in parts) == len(parts) - 1
    bench.storage.let_go()
    bench.table.release(fill)
    await bench.close()
    assert len(bench.storage.reads) == 1
    assert bench.table.ahead_allowance > 0


async def test_a_source_without_an_end_is_broken_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "tier", 64 << 20, BLOCK, 16, deadline_seconds=-10.0)
    fill = bench.fill()
    bench.storage.held = True
    reader = asyncio.create_task(fill.ensure(0, BLOCK, soon()))
    await bench.storage.asked(1)
    bench.table.end_overdue()
    with pytest.raises(SourceTimeoutError, match="did not answer in -5 s"):
        await reader
    bench.table.release(fill)
    await bench.close()


async def test_closing_breaks_off_what_takes_too_long(bench: Bench) -> None:
    fill = bench.fill()
    bench.storage.held = True
    reader = asyncio.create_task(fill.ensure(0, BLOCK, soon()))
    await bench.storage.asked(1)
    await bench.table.close(0.01)
    with pytest.raises(OSError, match="broken off"):
        await reader
    bench.table.release(fill)


async def test_a_store_that_refuses_all_does_not_fill_the_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(bench.table, "clock", lambda: now)

    async def refuse(*_: object) -> bytes:
        raise SourceAccessError("the keys have expired")

    monkeypatch.setattr(bench.storage, "read", refuse)
    fill = bench.fill()
    for _ in range(3 * FAILURES_LOGGED):
        with pytest.raises(SourceAccessError):
            await fill.ensure(0, 10, soon())
    assert bench.dataset.counters.errors["SourceAccessError"] == 3 * FAILURES_LOGGED
    assert len(caplog.records) == FAILURES_LOGGED
    assert "mount 'm', 'f': bytes 0 to 4096: the keys have expired" in caplog.text
    now += QUIET_SECONDS
    with pytest.raises(SourceAccessError):
        await fill.ensure(0, 10, soon())
    assert len(caplog.records) == FAILURES_LOGGED + 1
    bench.table.release(fill)
