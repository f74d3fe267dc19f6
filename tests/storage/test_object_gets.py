"""Short ranges over plain HTTP: the right bytes from any HTTP/1.1 server, or a clear error."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from fluidpy.settings import Settings
from fluidpy.storage import object_gets
from fluidpy.storage.etag_codec import encode_etag
from fluidpy.storage.factory import open_storage
from fluidpy.storage.http_connection import MalformedAnswerError, parse_head
from fluidpy.storage.s3_signature import AccessKey, GetSigner, sign_request
from fluidpy.storage.under_storage import MountSource, UnderStorage
from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy, fault_proxy
from fluidpy.testing.servers.object_server import ObjectServer, object_server
from fluidpy.testing.servers.seaweedfs import SeaweedServer

DATA = bytes(range(256)) * 500
ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
VERSION = encode_etag(ETAG)
BODY = b"0123456789"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def storage(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, settings: Settings
) -> AsyncIterator[UnderStorage]:
    await seaweedfs_server.put_objects_async(bucket, {"a/data": DATA})
    opened = open_storage(seaweedfs_server.source(bucket, endpoint=proxy.endpoint), settings)
    yield opened
    await opened.close()


@asynccontextmanager
async def scripted(
    script: Script, settings: Settings, **options: str
) -> AsyncIterator[UnderStorage]:
    """A storage before a server that answers each connection by `script`."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went first
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    source = MountSource("s3://open", "", {"endpoint": endpoint, "retries": "0", **options})
    opened = open_storage(source, settings)
    try:
        yield opened
    finally:
        await opened.close()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def answers(*parts: bytes, then: float = 0.0) -> Script:
    """Answers each request on a connection with these writes, each after a turn of the loop."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
            if then:
                await asyncio.sleep(then)
                return

    return script


def head(*lines: str, status: str = "206 Partial Content", length: int | None = 10) -> bytes:
    told = [] if length is None else [f"Content-Length: {length}"]
    common = [f"HTTP/1.1 {status}", f"ETag: {ETAG}", "Content-Range: bytes 0-9/10"]
    return "\r\n".join([*common, *told, *lines, "", ""]).encode()


async def read(storage: UnderStorage) -> bytes:
    return bytes(await asyncio.wait_for(storage.read("a", 0, 10, VERSION), 60))


@pytest.mark.parametrize(
    "parts",
    [
        (head() + BODY,),
        (head(), BODY),
        (head()[:30], head()[30:60], head()[60:] + BODY[:3], BODY[3:]),
        (head()[:-2], head()[-2:] + BODY[:9], BODY[9:]),
    ],
    ids=["at once", "head first", "in bits", "cut in the empty line"],
)
async def test_an_answer_may_come_in_any_pieces(
    settings: Settings, parts: tuple[bytes, ...]
) -> None:
    async with scripted(answers(*parts), settings) as storage:
        assert await read(storage) == BODY
        assert await read(storage) == BODY


@pytest.mark.parametrize(
    "part",
    [head("Connection: close") + BODY, head() + BODY + b"more than was announced"],
    ids=["connection: close", "too much"],
)
async def test_a_connection_that_cannot_go_on_is_not_used_again(
    settings: Settings, part: bytes
) -> None:
    opened = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await answers(part)(reader, writer)

    async with scripted(script, settings) as storage:
        assert await read(storage) == BODY
        assert await read(storage) == BODY
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("part", "error", "text"),
    [
        (head(length=9) + BODY[:9], SourceUnavailableError, "announced 9 of 10 bytes of a"),
        (
            head("Transfer-Encoding: chunked", length=None) + b"a\r\n0123456789\r\n0\r\n\r\n",
            SourceUnavailableError,
            "announced no length of a",
        ),
        (head(status="204 No Content", length=0), SourceUnavailableError, "answered 204"),
        (b"220 mail.example ESMTP\r\n\r\n", SourceUnavailableError, "does not speak HTTP/1.1"),
        (b"x" * 70_000, SourceUnavailableError, "does not speak HTTP/1.1"),
        (
            head(status="403 Forbidden", length=None) + b"<Error><Code>AccessDenied</Code></Error>",
            SourceAccessError,
            "403 AccessDenied",
        ),
        (head(status="412 Precondition Failed", length=0), SourceChangedError, "no longer"),
        (head().replace(b"0-9/10", b"0-7/8"), SourceChangedError, "no longer"),
        (head().replace(b"0-9/10", b"5-14/20"), SourceUnavailableError, "answered bytes 5-14"),
        (head().replace(ETAG.encode(), b'"other"') + BODY, SourceChangedError, "no longer"),
    ],
)
async def test_an_answer_of_no_use_is_an_error_that_names_the_object(
    settings: Settings, part: bytes, error: type[Exception], text: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(part)
        await writer.drain()

    async with scripted(script, settings) as storage:
        with pytest.raises(error, match=text):
            await read(storage)


@pytest.mark.parametrize("sent", [b"", head()[:20], head() + BODY[:4]])
async def test_a_silent_server_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(object_gets, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(object_gets, "_WATCH_SECONDS", 0.1)
    async with scripted(answers(sent, then=30), settings) as storage:
        with pytest.raises(SourceTimeoutError, match="did not answer in time about a"):
            await read(storage)


@pytest.mark.parametrize("sent", [0, 4])
async def test_a_connection_that_breaks_is_an_error_and_not_a_short_body(
    settings: Settings, sent: int
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head() + BODY[:sent])

    async with scripted(script, settings) as storage:
        with pytest.raises(SourceUnavailableError, match=f"ended after {sent} bytes of a"):
            await read(storage)


async def test_a_connection_that_died_while_idle_is_replaced_without_a_pause(
    keys: ObjectServer, settings: Settings
) -> None:
    keys.put("open", "a/data", DATA)
    with fault_proxy(keys.endpoint) as proxy:
        source = MountSource("s3://open", "", {"endpoint": proxy.endpoint, "retries": "0"})
        storage = open_storage(source, settings)
        info = await storage.stat("a/data")
        proxy.add(Fault(path="*/a/data", close_after=len(DATA)))
        for _ in range(3):
            assert bytes(await storage.read("a/data", 0, info.size, info.version)) == DATA
        await storage.close()


async def test_a_read_under_way_fails_when_the_storage_is_closed(settings: Settings) -> None:
    asked, requests = asyncio.Event(), 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            if requests == 1:
                writer.write(head() + BODY)
            else:
                asked.set()

    async with scripted(script, settings) as storage:
        assert await read(storage) == BODY
        task = asyncio.create_task(read(storage))
        await asyncio.wait_for(asked.wait(), 60)
        await storage.close()
        with pytest.raises(SourceUnavailableError, match="broke the connection while answering a"):
            await task
    assert requests == 2


async def test_connections_idle_for_long_are_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_gets, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(object_gets, "_WATCH_SECONDS", 0.05)
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head() + BODY)
        assert await reader.read() == b""
        closed.set()

    async with scripted(script, settings) as storage:
        assert await read(storage) == BODY
        await asyncio.wait_for(closed.wait(), 60)


async def test_a_cancelled_read_ends_at_once_and_the_next_one_is_right(
    storage: UnderStorage, proxy: FaultProxy
) -> None:
    info = await storage.stat("a/data")
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    def before() -> None:
        loop.call_soon_threadsafe(asked.set)

    proxy.add(Fault(path="*/a/data", stall_after=1000, before=before))
    task = asyncio.create_task(storage.read("a/data", 0, info.size, info.version))
    await asyncio.wait_for(asked.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 15)
    assert bytes(await storage.read("a/data", 0, info.size, info.version)) == DATA


async def test_many_reads_at_once_keep_their_bytes_apart(storage: UnderStorage) -> None:
    info = await storage.stat("a/data")
    spans = [(at, min(at + size, len(DATA))) for at in range(0, 5000, 250) for size in (1, 90_000)]
    got = await asyncio.gather(*(storage.read("a/data", *span, info.version) for span in spans))
    assert [bytes(data) for data in got] == [DATA[start:end] for start, end in spans]


class CountingServer(ObjectServer):
    """Takes a while for each answer, and counts those under way."""

    now = most = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
        return await super().handle(request)


async def test_a_mounts_limits_hold(settings: Settings) -> None:
    reads, a_second, at_once = 20, 8, 3
    with object_server(CountingServer()) as server:
        assert isinstance(server, CountingServer)
        server.put("open", "a/data", DATA)
        options = {"endpoint": server.endpoint, "max_requests": str(at_once)}
        limited = options | {"max_bytes_per_second": str(a_second * len(DATA))}
        for given in (options, limited):
            server.most = 0
            storage = open_storage(MountSource("s3://open", "", given), settings)
            info = await storage.stat("a/data")
            began = time.monotonic()
            asked = (storage.read("a/data", 0, info.size, info.version) for _ in range(reads))
            assert [bytes(data) for data in await asyncio.gather(*asked)] == [DATA] * reads
            took = time.monotonic() - began
            await storage.close()
            assert 1 < server.most <= at_once
    # A second's worth at once, then at the rate; the last one waits for those before it alone.
    assert took >= (reads - a_second - 1) / a_second


def test_a_head_says_what_it_says() -> None:
    plain = parse_head(b"HTTP/1.1 200 OK\r\nA:b\r\nCONTENT-length: 7\r\nConnection: Keep-Alive")
    assert (plain.status, plain.length, plain.keeps) == (200, 7, True)
    assert plain.headers["a"] == "b"
    assert not parse_head(b"HTTP/1.0 200 OK\r\nContent-Length: 7").keeps
    assert parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: -7").length is None
    for broken in (b"", b"HTTP/2 200", b"HTTP/1.1 OK", b"\xff\xfe"):
        with pytest.raises(MalformedAnswerError):
            parse_head(broken)


@given(
    secret=st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1),
    token=st.sampled_from(["", "a-token"]),
    path=st.text(st.sampled_from("/abc%2F-_.~09"), max_size=30),
    seconds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3),
)
def test_a_get_is_signed_as_any_request(
    secret: str, token: str, path: str, seconds: list[int]
) -> None:
    key, signer = AccessKey("an-id", secret, token), GetSigner("a-region", "host:90")
    for now in [*seconds, seconds[0]]:
        expected = sign_request(
            key, "a-region", "GET", "host:90", path, "", datetime.fromtimestamp(now, UTC)
        )
        lines = signer.lines(key, path, now).removesuffix("\r\n").split("\r\n")
        assert dict(line.split(": ", 1) for line in lines) == expected
    other = dataclasses.replace(key, secret_access_key=secret + "x")
    assert signer.lines(other, path, seconds[0]) != signer.lines(key, path, seconds[0])
    assert signer.lines(None, path, 0) == "host: host:90\r\n"
