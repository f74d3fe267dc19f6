"""What the worker looks after by itself: old rows of catalogs, storages that nobody reads."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from fluidpy.cache.cached_object import CachedObject
from fluidpy.errors import CacheError, PathNotFoundError
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.namespace.namespace import Namespace
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import Kind, ListPage, MountSource, ObjectInfo, UnderStorage
from fluidpy.worker import lent_storage
from fluidpy.worker.connection import Connection
from fluidpy.worker.datasets import UNATTACHED_KEPT
from fluidpy.worker.lent_storage import StorageLender
from fluidpy.worker.requests import Answer, Reply
from fluidpy.worker.session import Session
from fluidpy.worker.worker import PURGE_FIRST_SECONDS, PURGE_SECONDS, Worker
from tests.worker.held_storage import HeldStorage


class ChangingStorage(HeldStorage):
    """The file `f` with a version that a test changes."""

    version = b"1"

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        yield ListPage([ObjectInfo("f", Kind.FILE, len(self.data), 0, self.version)], [])


class _Peer:
    """A connection that is asked for nothing but its process."""

    def peer_pid(self) -> int:
        return os.getpid()


class Bench:
    """A worker without its socket, and one client of it."""

    def __init__(self, directory: Path) -> None:
        self.storages: dict[str, ChangingStorage] = {}
        runtime = directory / "r"
        runtime.mkdir()
        settings = Settings(cache_dir=directory / "cache", runtime_dir=runtime)
        self.worker = Worker(settings, open_storage=self._open_storage)
        self.session = Session(self.worker, cast(Connection, _Peer()))

    def _open_storage(self, source: MountSource, _: Settings) -> UnderStorage:
        storage = self.storages[source.url] = ChangingStorage(b"data" * 50_000)
        return storage

    async def attach(self, name: str, user: object) -> int:
        mount = MountDefinition("m", "/", MountSource(f"memory://{name}"))
        definition = DatasetDefinition(name, "default", (mount,))
        return (await self.worker.datasets.attach(definition, user)).id

    async def ask(self, operation: str, **fields: object) -> Reply:
        request = {"deadline": 10.0, **fields}
        answer: Answer = self.session.handle(operation, request, lambda _: None)
        return answer if isinstance(answer, Reply) else await answer

    async def close(self) -> None:
        self.session.close()
        await self.worker._close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


async def test_rows_of_old_versions_are_purged_but_for_those_that_are_open(bench: Bench) -> None:
    number = await bench.attach("data", bench.session)
    dataset = bench.worker.datasets.get(number)
    rows: list[int] = []
    handles: list[int] = []
    for version in (b"1", b"2", b"3"):
        bench.storages["memory://data"].version = version
        await dataset.namespace.refresh("", recursive=False)
        opened = (await bench.ask("open", dataset=number, path="f")).ok
        rows.append(opened["entry"][0])
        handles.append(opened["handle"])
    bench.session.release([handles[1]])
    with sqlite3.connect(dataset.namespace.catalog_path) as catalog:
        catalog.execute("UPDATE entry SET retired_at=1 WHERE retired_at IS NOT NULL")
    catalog.close()
    now = time.monotonic()
    await bench.worker.purge_catalogs(now)
    assert dataset.namespace.reader.get(rows[1]) is not None
    await bench.worker.purge_catalogs(now + PURGE_FIRST_SECONDS)
    get = dataset.namespace.reader.get
    assert [get(row) is not None for row in rows] == [True, False, True]
    with pytest.raises(PathNotFoundError):
        await bench.ask("open", dataset=number, entry=rows[1])
    bench.session.release([handles[0]])
    await bench.worker.purge_catalogs(now + PURGE_FIRST_SECONDS + 1)
    assert get(rows[0]) is not None
    await bench.worker.purge_catalogs(now + PURGE_FIRST_SECONDS + PURGE_SECONDS)
    assert get(rows[0]) is None


async def test_an_idle_dataset_closes_no_storage_that_is_read(bench: Bench) -> None:
    number = await bench.attach("first", bench.session)
    storage = bench.storages["memory://first"]
    handle = (await bench.ask("open", dataset=number, path="f")).ok["handle"]
    storage.held = True
    reading = asyncio.ensure_future(bench.ask("read", handle=handle, start=0, end=100))
    await storage.arrived.wait()
    bench.worker.datasets.detach(bench.session)
    for other in range(2 * UNATTACHED_KEPT):
        user = object()
        await bench.attach(f"other{other}", user)
        bench.worker.datasets.detach(user)
    assert "default/first" not in [d.definition.key for d in bench.worker.datasets]
    await bench.worker._lender.close_returned(bench.worker.fills.storages_in_use())
    assert not storage.closed
    storage.let_go()
    assert (await reading).ok["complete"] is True
    bench.session.release([handle])
    await bench.worker._lender.close_returned(bench.worker.fills.storages_in_use())
    assert storage.closed


async def test_an_idle_dataset_that_somebody_uses_stays_open(bench: Bench) -> None:
    number = await bench.attach("used", bench.session)
    for other in range(2 * UNATTACHED_KEPT):
        user = object()
        await bench.attach(f"other{other}", user)
        bench.worker.datasets.detach(user)
    keys = [dataset.definition.key for dataset in bench.worker.datasets]
    assert bench.worker.datasets.get(number).definition.key in keys
    assert len(keys) == UNATTACHED_KEPT + 1
    handle = (await bench.ask("open", dataset=number, path="f")).ok["handle"]
    await bench.ask("read", handle=handle, start=0, end=100)


async def test_an_index_that_cannot_be_written_is_tried_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fluidpy.worker.worker.FLUSH_AGAIN_SECONDS", 0.01)
    number = await bench.attach("data", bench.session)
    store = bench.worker.datasets.get(number).store
    write, tries, written = store.table.index.apply, [0], asyncio.Event()

    def full_disk(*rows: Any) -> None:
        tries[0] += 1
        if tries[0] <= 3:
            raise CacheError("cache index failed: disk is full", cure="Make room.")
        write(*rows)
        written.set()

    monkeypatch.setattr(store.table.index, "apply", full_disk)
    flushing = asyncio.ensure_future(bench.worker._flush_often())
    handle = (await bench.ask("open", dataset=number, path="f")).ok["handle"]
    await bench.ask("read", handle=handle, start=0, end=100)
    assert (await bench.ask("load", dataset=number, paths=[])).ok["done_files"] == 1
    await asyncio.wait_for(written.wait(), 60)
    assert not flushing.done()
    flushing.cancel()
    assert tries[0] >= 4
    assert "disk is full" in caplog.text


async def test_a_store_that_cannot_close_leaves_the_others_clean(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await bench.attach("data", bench.session)
    store = bench.worker.datasets.get(number).store

    def full_disk(*_: Any) -> None:
        raise CacheError("cache index failed: disk is full", cure="Make room.")

    monkeypatch.setattr(store.table.index, "set_meta", full_disk)
    bench.worker.stores.close()
    assert "did not close cleanly" in caplog.text
    assert list(bench.worker.stores) == []


async def test_a_dataset_is_whole_again_after_whoever_redefined_it_has_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await bench.attach("data", bench.session)
    starting, go_on = asyncio.Event(), asyncio.Event()
    start = Namespace.start

    async def start_slowly(self: Namespace) -> None:
        starting.set()
        await go_on.wait()
        await start(self)

    monkeypatch.setattr(Namespace, "start", start_slowly)
    mount = MountDefinition("m", "/", MountSource("memory://elsewhere"))
    other = DatasetDefinition("data", "default", (mount,))
    redefining = asyncio.ensure_future(bench.worker.datasets.attach(other, object(), manage=True))
    await starting.wait()
    redefining.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await redefining
    assert (await bench.ask("open", dataset=number, path="f")).ok["entry"]


async def test_a_dataset_that_is_wanted_while_it_closes_is_opened_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.attach("first", bench.session)
    bench.worker.datasets.detach(bench.session)
    closing, go_on = asyncio.Event(), asyncio.Event()
    close = Namespace.close

    async def close_slowly(self: Namespace) -> None:
        if self.definition.name == "first" and not closing.is_set():
            closing.set()
            await go_on.wait()
        await close(self)

    monkeypatch.setattr(Namespace, "close", close_slowly)
    others = asyncio.ensure_future(_pass_by(bench, UNATTACHED_KEPT + 1))
    await closing.wait()
    attaching = asyncio.ensure_future(bench.attach("first", bench.session))
    await asyncio.wait({attaching}, timeout=0.5)
    go_on.set()
    number = await attaching
    assert (await bench.ask("open", dataset=number, path="f")).ok["entry"]
    await others


async def _pass_by(bench: Bench, many: int) -> None:
    """Short-lived clients, each of a Dataset of its own."""
    for number in range(many):
        user = object()
        await bench.attach(f"other{number}", user)
        bench.worker.datasets.detach(user)


async def test_storages_that_do_not_close_well_hold_up_no_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise RuntimeError("a foreign storage is broken")

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(lent_storage, "CLOSE_SECONDS", 0.05)
    lender = StorageLender(bench._open_storage)
    lent = [lender.lend(MountSource(f"memory://{n}"), bench.worker.settings) for n in range(3)]
    monkeypatch.setattr(bench.storages["memory://0"], "close", fail)
    monkeypatch.setattr(bench.storages["memory://1"], "close", hang)
    for one in lent:
        await one.close()
    await lender.close_returned()
    assert bench.storages["memory://2"].closed
    assert "a foreign storage is broken" in caplog.text


async def test_a_file_that_is_removed_while_it_is_verified_is_not_called_complete(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await bench.attach("data", bench.session)
    handle = (await bench.ask("open", dataset=number, path="f")).ok["handle"]
    await bench.ask("read", handle=handle, start=0, end=200_000)
    bench.session.release([handle])
    dataset = bench.worker.datasets.get(number)
    entry = dataset.fresh_entry("f")
    assert entry is not None
    cached = dataset.store.get(dataset.object_key(entry))
    assert cached is not None
    path = Path(cached.path)
    path.touch()  # now its bytes have to be verified
    verify = CachedObject.verify

    def verify_too_early(self: CachedObject, start: int, end: int) -> bool:
        right = verify(self, start, end)
        path.unlink()
        return right

    monkeypatch.setattr(CachedObject, "verify", verify_too_early)
    opened = await bench.ask("open", dataset=number, path="f")
    assert opened.ok["complete"] is False
    read = await bench.ask("read", handle=opened.ok["handle"], start=0, end=200_000)
    (fd,) = read.fds or opened.fds
    assert os.pread(fd, 200_000, 0) == b"data" * 50_000


class _WithoutDescriptors(socket.socket):
    """A listening socket of a process that may open no more files."""

    refused = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.refused += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_clients_that_cannot_be_accepted_are_not_tried_without_a_pause(bench: Bench) -> None:
    address = os.fspath(bench.worker.settings.worker_socket)
    with (
        _WithoutDescriptors(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        listener.setblocking(False)
        listener.bind(address)
        listener.listen()
        client.connect(address)
        bench.worker._listen(listener)
        turns = 0
        while not listener.refused or turns < 100:
            await asyncio.sleep(0)
            turns += listener.refused > 0
        assert listener.refused == 1
        asyncio.get_running_loop().remove_reader(listener)
        bench.worker.stop("the test is over")
