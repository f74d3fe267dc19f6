"""What is sent with each ranged read, so that the server refuses another version by itself."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.object_gets import MOST_BYTES
from fluidpy.storage.under_storage import MountSource, StreamingStorage, UnderStorage
from fluidpy.testing.servers.object_server import ObjectServer, StoredObject, object_server
from tests.cli.conftest import command_line_in, write_dataset

LARGE = MOST_BYTES + 4096
DATA = random.Random(5).randbytes(3 * MOST_BYTES)
MODIFIED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Received(NamedTuple):
    """One request, with the headers that matter here."""

    method: str
    key: str
    range: str
    if_match: str
    if_unmodified_since: str


class RecordingServer(ObjectServer):
    """Notes what it was asked; `tagged` says whether it tells ETags."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Received] = []
        self.tagged = True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        names = ("Range", "If-Match", "If-Unmodified-Since")
        headers = [request.headers.get(name, "") for name in names]
        key = request.url.path.removeprefix("/open/")
        self.received.append(Received(request.method, key, *headers))
        answer = await super().handle(request)
        if not self.tagged:
            answer.headers.pop("ETag", None)
        return answer

    def reads(self) -> list[Received]:
        """The ranged reads since the last call; there is one at least."""
        found = [one for one in self.received if one.method == "GET" and one.range]
        self.received.clear()
        assert found
        return found


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    recording = RecordingServer()
    with object_server(recording):
        recording.buckets["open"] = {"a/data": StoredObject(DATA, MODIFIED, '"5f3a"')}
        yield recording


@contextlib.asynccontextmanager
async def opened(
    url: str, settings: Settings, **options: str
) -> AsyncIterator[tuple[UnderStorage, bytes]]:
    """The storage of a URL, and the version of its file."""
    storage = open_storage(MountSource(url, "", options), settings)
    try:
        path = "a/data" if url.endswith("open") else "data"
        yield storage, (await storage.stat(path)).version
    finally:
        await storage.close()


@pytest.mark.parametrize("size", [10, LARGE], ids=["short, by fluidpy", "long, by obstore"])
async def test_a_range_of_an_object_is_read_on_condition(
    server: RecordingServer, settings: Settings, size: int
) -> None:
    async with opened("s3://open", settings, endpoint=server.endpoint) as (storage, version):
        server.received.clear()
        assert bytes(await storage.read("a/data", 7, 7 + size, version)) == DATA[7 : 7 + size]
    assert [one[2:] for one in server.reads()] == [(f"bytes=7-{6 + size}", '"5f3a"', "")]


async def test_pieces_of_an_object_are_read_on_condition(
    server: RecordingServer, settings: Settings
) -> None:
    taken = bytearray(LARGE)

    def take(offset: int, piece: memoryview) -> None:
        taken[offset : offset + len(piece)] = piece

    async with opened("s3://open", settings, endpoint=server.endpoint) as (storage, version):
        assert isinstance(storage, StreamingStorage)
        server.received.clear()
        await storage.read_pieces("a/data", 0, LARGE, version, 65536, take)
    assert taken == DATA[:LARGE]
    assert {one.if_match for one in server.reads()} == {'"5f3a"'}


async def test_a_web_server_s_file_is_read_on_condition(
    server: RecordingServer, settings: Settings
) -> None:
    """By its strong ETag, or by its time where it has none."""
    url = f"{server.endpoint}/open/a/data"
    async with opened(url, settings) as (storage, version):
        assert bytes(await storage.read("data", 7, 17, version)) == DATA[7:17]
    assert [one[2:] for one in server.reads()] == [("bytes=7-16", '"5f3a"', "")]
    server.tagged = False
    async with opened(url, settings) as (storage, version):
        assert bytes(await storage.read("data", 7, 17, version)) == DATA[7:17]
    then = format_datetime(MODIFIED, usegmt=True)
    assert [one[2:] for one in server.reads()] == [("bytes=7-16", "", then)]


async def test_what_fsspec_reads_is_looked_at_before_and_after(
    server: RecordingServer, settings: Settings
) -> None:
    """fsspec's contract has no condition, so its version is asked for twice instead."""
    options = {"endpoint": server.endpoint, "client": "fsspec"}
    async with opened("s3://open", settings, **options) as (storage, version):
        server.received.clear()
        assert bytes(await storage.read("a/data", 7, 17, version)) == DATA[7:17]
    asked = [(one.method, one.range) for one in server.received if one.key == "a/data"]
    assert asked == [("HEAD", ""), ("GET", "bytes=7-16"), ("HEAD", "")]


@pytest.mark.slow
def test_a_worker_reads_nothing_without_its_condition(
    server: RecordingServer, tmp_path: Path
) -> None:
    """Small and large files, cold reads and loads: a version is never left out on the way."""
    old = datetime.now(UTC) - timedelta(hours=1)
    files = {f"d/{n}": DATA[: size + n] for n, size in enumerate((1, 9_000, 300_000, LARGE) * 2)}
    tags = {key: f'"{number:032x}"' for number, key in enumerate(files)}
    server.buckets["open"] = {key: StoredObject(files[key], old, tags[key]) for key in files}
    with command_line_in(tmp_path) as line:
        file = write_dataset(tmp_path / "pets.yaml", "s3://open")
        with file.open("a") as more:
            more.write(f"      options: {{endpoint: '{server.endpoint}'}}\n")
        for key in list(files)[1:4:2]:
            line.done("cp", f"fluid://pets/{key}", tmp_path / "out", "-f", file)
            assert (tmp_path / "out").read_bytes() == files[key]
        line.done("load", "-f", file)
    gets = [one for one in server.received if one.method == "GET" and one.key in files]
    assert {one.key for one in gets} == set(files)
    assert [one for one in gets if not one.range or one.if_match != tags[one.key]] == []
