"""Ranges handed over in pieces: the right bytes in order, or a clear error and then silence."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from collections.abc import AsyncIterator

import pytest

from fluidpy.errors import SourceChangedError, SourceTimeoutError, SourceUnavailableError
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource, StreamingStorage, UnderStorage
from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy, fault_proxy
from fluidpy.testing.servers.object_server import ObjectServer
from fluidpy.testing.servers.seaweedfs import SeaweedServer

PIECE = 4096
DATA = bytes(range(256)) * 500


class Taken:
    """Collects pieces as a cache file would: each at its offset."""

    def __init__(self) -> None:
        self.bytes = bytearray(len(DATA))
        self.offsets: list[int] = []
        self.places: set[int] = set()

    def take(self, offset: int, piece: memoryview) -> None:
        self.places.add(ctypes.addressof(ctypes.c_char.from_buffer(piece)))
        self.offsets.append(offset)
        self.bytes[offset : offset + len(piece)] = piece


@pytest.fixture
async def storage(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, settings: Settings
) -> AsyncIterator[StreamingStorage]:
    await seaweedfs_server.put_objects_async(bucket, {"a/data": DATA})
    opened = open_storage(seaweedfs_server.source(bucket, endpoint=proxy.endpoint), settings)
    yield streaming(opened)
    await opened.close()


@pytest.fixture
async def hasty_storage(
    storage: StreamingStorage,
    seaweedfs_server: SeaweedServer,
    proxy: FaultProxy,
    bucket: str,
    hasty: Settings,
) -> AsyncIterator[StreamingStorage]:
    """The same with a short deadline."""
    opened = open_storage(seaweedfs_server.source(bucket, endpoint=proxy.endpoint), hasty)
    yield streaming(opened)
    await opened.close()


def streaming(storage: UnderStorage) -> StreamingStorage:
    assert isinstance(storage, StreamingStorage)
    assert storage.gives_pieces
    return storage


async def read(
    storage: StreamingStorage, start: int = 0, end: int = len(DATA), piece_bytes: int = PIECE
) -> Taken:
    info = await storage.stat("a/data")
    taken = Taken()
    await storage.read_pieces("a/data", start, end, info.version, piece_bytes, taken.take)
    return taken


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA)), (PIECE, 3 * PIECE + 1), (5, 6)])
async def test_a_range_comes_in_order_and_whole(
    storage: StreamingStorage, start: int, end: int
) -> None:
    taken = await read(storage, start, end)
    assert taken.bytes[start:end] == DATA[start:end]
    assert taken.offsets == list(range(start, end, PIECE))
    assert not any(taken.bytes[:start])
    assert not any(taken.bytes[end:])


async def test_pieces_of_all_sizes_lie_at_a_page_in_memory_that_is_used_again(
    storage: StreamingStorage,
) -> None:
    first = await read(storage)
    assert {place % mmap.PAGESIZE for place in first.places} == {0}
    assert (await read(storage)).places == first.places
    larger = await read(storage, piece_bytes=2 * PIECE)
    assert larger.bytes == DATA
    assert larger.offsets == list(range(0, len(DATA), 2 * PIECE))
    smaller = await read(storage)
    assert smaller.bytes == DATA
    assert smaller.offsets == first.offsets


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="*/a/data", status=503, times=2),
        Fault(path="*/a/data", close_after=10_000),
        Fault(path="*/a/data", close_after=0),
        Fault(path="*/a/data", short_by=1),
    ],
    ids=["503 twice", "early close", "no body", "one byte short"],
)
async def test_a_broken_answer_is_asked_for_again(
    storage: StreamingStorage, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.add(fault)
    assert (await read(storage)).bytes == DATA


async def test_a_stall_ends_at_the_deadline(
    storage: StreamingStorage, hasty_storage: StreamingStorage, proxy: FaultProxy
) -> None:
    info, taken = await storage.stat("a/data"), Taken()
    proxy.add(Fault(path="*/a/data", stall_after=10_000, times=0))
    with pytest.raises(SourceTimeoutError, match="reading a/data took longer than 1 s"):
        async with asyncio.timeout(20):
            await hasty_storage.read_pieces("a/data", 0, 100_000, info.version, PIECE, taken.take)


async def test_another_etag_is_never_accepted(storage: StreamingStorage, proxy: FaultProxy) -> None:
    info = await storage.stat("a/data")
    proxy.add(Fault(path="*/a/data", etag='"d41d8cd98f00b204e9800998ecf8427e"'))
    taken = Taken()
    with pytest.raises(SourceChangedError):
        await storage.read_pieces("a/data", 0, 9, info.version, PIECE, taken.take)
    assert taken.offsets == []


async def test_a_changed_object_is_refused(
    storage: StreamingStorage, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    info = await storage.stat("a/data")
    await seaweedfs_server.put_objects_async(bucket, {"a/data": b"new"})
    with pytest.raises(SourceChangedError):
        await storage.read_pieces("a/data", 0, 9, info.version, PIECE, Taken().take)


async def test_a_server_that_ignores_ranges_gives_no_wrong_byte(
    keys: ObjectServer, settings: Settings
) -> None:
    keys.put("open", "a/data", DATA)
    with fault_proxy(keys.endpoint) as proxy:
        source = MountSource("s3://open", "", {"endpoint": proxy.endpoint, "retries": "0"})
        storage = streaming(open_storage(source, settings))
        info, taken = await storage.stat("a/data"), Taken()
        proxy.add(Fault(path="*/a/data", ignore_range=True))
        with pytest.raises(SourceUnavailableError):
            await storage.read_pieces("a/data", 100, 200, info.version, PIECE, taken.take)
        assert taken.offsets == []
        await storage.close()


async def test_nothing_is_taken_after_a_cancelled_read_has_returned(
    storage: StreamingStorage, proxy: FaultProxy
) -> None:
    info, taken, begun = await storage.stat("a/data"), Taken(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def take(offset: int, piece: memoryview) -> None:
        taken.take(offset, piece)
        loop.call_soon_threadsafe(begun.set)

    proxy.add(Fault(path="*/a/data", stall_after=2 * PIECE, times=0))
    task = asyncio.create_task(
        storage.read_pieces("a/data", 0, len(DATA), info.version, PIECE, take)
    )
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 15)
    seen = len(taken.offsets)
    proxy.clear()
    assert (await read(storage)).bytes == DATA
    assert len(taken.offsets) == seen


async def test_an_error_of_the_taker_ends_the_read(storage: StreamingStorage) -> None:
    info = await storage.stat("a/data")

    def take(offset: int, piece: memoryview) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await storage.read_pieces("a/data", 0, 9, info.version, PIECE, take)
    assert (await read(storage)).bytes == DATA


async def test_a_connection_that_died_while_idle_is_replaced_without_a_pause(
    keys: ObjectServer, settings: Settings
) -> None:
    keys.put("open", "a/data", DATA)
    with fault_proxy(keys.endpoint) as proxy:
        source = MountSource("s3://open", "", {"endpoint": proxy.endpoint, "retries": "0"})
        storage = streaming(open_storage(source, settings))
        assert (await read(storage)).bytes == DATA
        proxy.add(Fault(path="*/a/data", close_after=len(DATA)))
        assert (await read(storage)).bytes == DATA
        assert (await read(storage)).bytes == DATA
        await storage.close()
