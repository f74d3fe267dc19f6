"""What a mount sees when the store in front of it misbehaves: right bytes or a clear error."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest

from fluidpy.errors import (
    SourceChangedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource, UnderStorage
from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy, fault_proxy
from fluidpy.testing.servers.object_server import ObjectServer
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from fluidpy.testing.storage_suite import walked

DATA = bytes(range(256)) * 512


@pytest.fixture
async def storage(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, settings: Settings
) -> AsyncIterator[UnderStorage]:
    await seaweedfs_server.put_objects_async(bucket, {"a/data": DATA, "a/other": b"other"})
    source = seaweedfs_server.source(bucket, endpoint=proxy.endpoint)
    opened = open_storage(source, settings)
    yield opened
    await opened.close()


@pytest.fixture
async def hasty_storage(
    storage: UnderStorage,
    seaweedfs_server: SeaweedServer,
    proxy: FaultProxy,
    bucket: str,
    hasty: Settings,
) -> AsyncIterator[UnderStorage]:
    """The same with a short deadline."""
    opened = open_storage(seaweedfs_server.source(bucket, endpoint=proxy.endpoint), hasty)
    yield opened
    await opened.close()


async def read_all(storage: UnderStorage) -> bytes:
    info = await storage.stat("a/data")
    return bytes(await storage.read("a/data", 0, info.size, info.version))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_a_passing_error_is_retried(
    storage: UnderStorage, proxy: FaultProxy, status: int
) -> None:
    proxy.add(Fault(path="*/a/data", status=status, times=2))
    assert await read_all(storage) == DATA
    assert proxy.count("*/a/data") == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="*/a/data", close_after=1000),
        Fault(path="*/a/data", close_after=0),
        Fault(path="*/a/data", short_by=1),
        Fault(path="*/a/data", short_by=len(DATA)),
    ],
    ids=["early close", "no body", "one byte short", "empty body"],
)
async def test_a_broken_body_is_read_again(
    storage: UnderStorage, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.add(fault)
    assert await read_all(storage) == DATA


async def test_an_error_that_stays_is_reported(
    storage: UnderStorage, hasty_storage: UnderStorage, proxy: FaultProxy
) -> None:
    proxy.add(Fault(path="*/a/data", status=503, times=0))
    info = await storage.stat("a/data")
    with pytest.raises((SourceUnavailableError, SourceTimeoutError)) as caught:
        await hasty_storage.read("a/data", 0, 10, info.version)
    text = str(caught.value)
    assert "mount test-bucket" in text
    assert "reading a/data" in text
    assert "a/data was answered with 503 SlowDown" in text


@pytest.mark.parametrize("sent", [0, 1000])
async def test_a_stall_ends_at_the_deadline(
    storage: UnderStorage, hasty_storage: UnderStorage, proxy: FaultProxy, sent: int
) -> None:
    proxy.add(Fault(path="*/a/data", stall_after=sent, times=0))
    info = await storage.stat("a/data")
    began = time.monotonic()
    with pytest.raises(SourceTimeoutError, match=r"reading a/data took longer than 1 s"):
        await hasty_storage.read("a/data", 0, info.size, info.version)
    assert time.monotonic() - began < 20


async def test_a_stalled_listing_ends_at_the_deadline(
    hasty_storage: UnderStorage, proxy: FaultProxy
) -> None:
    proxy.add(Fault(query="*list-type*", stall_after=0, times=0))
    with pytest.raises(SourceTimeoutError, match="took longer than 1 s"):
        await walked(hasty_storage, "")


async def test_another_etag_is_never_accepted(storage: UnderStorage, proxy: FaultProxy) -> None:
    info = await storage.stat("a/data")
    proxy.add(Fault(path="*/a/data", etag='"d41d8cd98f00b204e9800998ecf8427e"'))
    with pytest.raises(SourceChangedError):
        await storage.read("a/data", 0, 10, info.version)


async def test_a_server_that_ignores_conditions_is_caught(
    keys: ObjectServer, settings: Settings
) -> None:
    keys.put("open", "a/data", DATA)
    # Signatures cover the condition, so this proxy stands before a server without any.
    with fault_proxy(keys.endpoint) as proxy:
        storage = open_storage(MountSource("s3://open", "", {"endpoint": proxy.endpoint}), settings)
        info = await storage.stat("a/data")
        keys.put("open", "a/data", DATA[::-1])
        proxy.add(Fault(path="*/a/data", drop_condition=True))
        with pytest.raises(SourceChangedError):
            await storage.read("a/data", 0, info.size, info.version)
        await storage.close()


async def test_a_server_that_ignores_ranges_gives_no_wrong_byte(
    keys: ObjectServer, settings: Settings
) -> None:
    keys.put("open", "a/data", DATA)
    with fault_proxy(keys.endpoint) as proxy:
        source = MountSource("s3://open", "", {"endpoint": proxy.endpoint, "retries": "0"})
        storage = open_storage(source, settings)
        info = await storage.stat("a/data")
        proxy.add(Fault(path="*/a/data", ignore_range=True))
        with pytest.raises(SourceUnavailableError):
            await storage.read("a/data", 100, 200, info.version)
        assert bytes(await storage.read("a/data", 100, 200, info.version)) == DATA[100:200]
        await storage.close()


async def test_an_object_changed_between_ranges_is_never_mixed(
    storage: UnderStorage, proxy: FaultProxy, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    info = await storage.stat("a/data")
    half = info.size // 2
    first = await storage.read("a/data", 0, half, info.version)
    store = seaweedfs_server.store(bucket)

    def change() -> None:
        store.put("a/data", b"!" * info.size)

    proxy.add(Fault(path="*/a/data", before=change))
    with pytest.raises(SourceChangedError):
        await storage.read("a/data", half, info.size, info.version)
    assert bytes(first) == DATA[:half]


async def test_a_failed_page_alone_is_asked_again(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, settings: Settings
) -> None:
    names = {f"d/{n:05d}": b"x" for n in range(2100)}
    await seaweedfs_server.put_objects_async(bucket, names)
    storage = open_storage(seaweedfs_server.source(bucket, endpoint=proxy.endpoint), settings)
    proxy.add(Fault(query="*continuation-token=*", status=503, times=2))
    assert {entry.path for entry in await walked(storage, "")} == set(names)
    await storage.close()
    assert proxy.count("/*") == 5


async def test_wrong_credentials_are_not_retried(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, settings: Settings
) -> None:
    source = seaweedfs_server.source(bucket, endpoint=proxy.endpoint)
    wrong = dataclasses.replace(source, secrets={**source.secrets, "secret_access_key": "no"})
    storage = open_storage(wrong, settings)
    with pytest.raises(PermissionError):
        await storage.read("a", 0, 1, b"")
    await storage.close()
    assert proxy.count("*/a") == 1


async def test_no_more_requests_at_once_than_allowed(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, settings: Settings
) -> None:
    await seaweedfs_server.put_objects_async(bucket, {"a": b"0123456789"})
    source = seaweedfs_server.source(bucket, endpoint=proxy.endpoint, max_requests="2")
    storage = open_storage(source, settings)
    proxy.latency_seconds = 0.1
    began = time.monotonic()
    await asyncio.gather(*(storage.read("a", n, n + 1, b"") for n in range(8)))
    assert time.monotonic() - began >= 0.4
    await storage.close()
