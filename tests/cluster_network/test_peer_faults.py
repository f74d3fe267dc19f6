"""Networks that corrupt, stall, cut and vanish: the right error in time, and no wrong byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from fluidpy.cluster.membership import Member
from fluidpy.cluster.peer_protocol import PeerRequest, object_target
from fluidpy.errors import (
    PeerCorruptError,
    PeerError,
    PeerTimeoutError,
    PeerUnreachableError,
)
from fluidpy.worker import peer_server
from fluidpy.worker.peer_server import PeerServer
from tests.cluster_network.bed import BLOCK, TOKEN, Bed
from tests.cluster_network.raw_http import TcpProxy, ask, tcp_proxy

SIZE = 9 * BLOCK + 1234
SHORT = 0.4
"""The deadline of a read that is to fail by it, in seconds."""
LONG = 60.0
"""That of any other read: it ends long before, also on a busy machine."""
SLACK = 20.0
"""What a busy machine may take: far less than the `LONG` deadline, or no end at all."""

Way = Callable[[Bed, Member, PeerRequest, list[bytes], float], Coroutine[Any, Any, None]]


async def by_pieces(
    bed: Bed, member: Member, request: PeerRequest, got: list[bytes], seconds: float = LONG
) -> None:
    await bed.client.read(
        member,
        request,
        lambda _, piece: got.append(bytes(piece)),
        seconds=seconds,
        piece_bytes=2 * BLOCK,
    )


async def by_get(
    bed: Bed, member: Member, request: PeerRequest, got: list[bytes], seconds: float = LONG
) -> None:
    data, _ = await bed.client.get(member, request, seconds=seconds)
    got.append(bytes(data))


async def by_batch(
    bed: Bed, member: Member, request: PeerRequest, got: list[bytes], seconds: float = LONG
) -> None:
    errors = await bed.client.read_batch(
        member, [request], lambda _, data: got.append(bytes(data)), seconds=seconds
    )
    if errors[0] is not None:
        raise errors[0]


WAYS = pytest.mark.parametrize("way", [by_pieces, by_get, by_batch])


@pytest.fixture
async def proxy(bed: Bed) -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(bed.server.address) as proxy:
        yield proxy


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until something holds that no event tells."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def cached(bed: Bed) -> tuple[PeerRequest, bytes]:
    data = os.urandom(SIZE)
    request = await bed.put("f", data)
    await bed.read(request)
    return request, data


async def fails(
    kind: type[PeerError], bed: Bed, proxy: TcpProxy, way: Way, request: PeerRequest
) -> list[bytes]:
    """What was handed over before the read failed: by its deadline, or at once, well before it."""
    got: list[bytes] = []
    seconds = SHORT if kind is PeerTimeoutError else LONG
    begin = time.monotonic()
    with pytest.raises(kind) as caught:
        await way(bed, bed.at(proxy.address), request, got, seconds)
    assert time.monotonic() - begin < SLACK
    assert "worker-0" in caught.value.message
    assert caught.value.cure
    return got


@WAYS
@pytest.mark.parametrize("where", [0.2, 0.5, 0.999])
async def test_a_byte_corrupted_on_the_way_is_never_used(
    bed: Bed, proxy: TcpProxy, way: Way, where: float
) -> None:
    request, data = await cached(bed)
    place = int(SIZE * where)

    def change(at: int, passed: bytes) -> bytes:
        if at <= place < at + len(passed):
            damaged = bytearray(passed)
            damaged[place - at] ^= 0x40
            return bytes(damaged)
        return passed

    proxy.change = change
    got = b"".join(await fails(PeerCorruptError, bed, proxy, way, request))
    assert data.startswith(got)
    proxy.change = lambda _, passed: passed
    again: list[bytes] = []
    await way(bed, bed.at(proxy.address), request, again, LONG)
    assert b"".join(again) == data


@WAYS
@pytest.mark.parametrize("after", [0, 10, 3 * BLOCK])
async def test_a_link_that_goes_silent_ends_with_the_deadline(
    bed: Bed, proxy: TcpProxy, way: Way, after: int
) -> None:
    request, data = await cached(bed)
    proxy.stall_after = after
    got = b"".join(await fails(PeerTimeoutError, bed, proxy, way, request))
    assert data.startswith(got)


@WAYS
@pytest.mark.parametrize("after", [0, 10, 3 * BLOCK, SIZE])
async def test_a_link_that_is_cut_is_noticed_at_once(
    bed: Bed, proxy: TcpProxy, way: Way, after: int
) -> None:
    request, data = await cached(bed)
    proxy.cut_after = after
    got = b"".join(await fails(PeerUnreachableError, bed, proxy, way, request))
    assert data.startswith(got)


@WAYS
async def test_a_trickle_does_not_outlive_the_deadline(bed: Bed, proxy: TcpProxy, way: Way) -> None:
    request, data = await cached(bed)
    proxy.bytes_per_second = SIZE / 10
    got = b"".join(await fails(PeerTimeoutError, bed, proxy, way, request))
    assert data.startswith(got)


@WAYS
async def test_a_slow_link_within_the_deadline_is_fine(bed: Bed, proxy: TcpProxy, way: Way) -> None:
    request, data = await cached(bed)
    proxy.bytes_per_second = SIZE * 10
    got: list[bytes] = []
    await way(bed, bed.at(proxy.address), request, got, LONG)
    assert b"".join(got) == data


@WAYS
async def test_nobody_listens(bed: Bed, way: Way) -> None:
    request, _ = await cached(bed)
    async with tcp_proxy(bed.server.address) as gone:
        pass
    await fails(PeerUnreachableError, bed, gone, way, request)


@WAYS
async def test_a_host_that_accepts_nothing_ends_with_the_deadline(bed: Bed, way: Way) -> None:
    """As behind a partition: packets vanish, nothing answers. A full backlog drops them here."""
    request, _ = await cached(bed)
    proxy = TcpProxy("")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        proxy.address = f"127.0.0.1:{deaf.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(deaf.getsockname())
            await fails(PeerTimeoutError, bed, proxy, way, request)
        finally:
            for each in waiting:
                each.close()


@WAYS
async def test_a_kept_connection_that_died_is_replaced(bed: Bed, proxy: TcpProxy, way: Way) -> None:
    request, _ = await cached(bed)
    got: list[bytes] = []
    await way(bed, bed.at(proxy.address), request, got, LONG)
    await proxy.close()  # ends its connections and goes on listening
    await way(bed, bed.at(proxy.address), request, got, LONG)
    assert got == got[: len(got) // 2] * 2
    assert proxy.accepted == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 301 No\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
        b"HTTP/1.1 200 OK\r\nX-Fluidpy-Block-Bytes: 0\r\nContent-Length: %d\r\n\r\n" % SIZE,
        b"HTTP/1.1 200 OK\r\nX-Fluidpy-Block-Bytes: 65536\r\nX-Fluidpy-Crc32c: zz\r\n"
        b"Content-Length: %d\r\n\r\n" % SIZE,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        os.urandom(5000),
    ],
)
@WAYS
async def test_answers_that_are_none_are_named(bed: Bed, way: Way, answer: bytes) -> None:
    request, _ = await cached(bed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        proxy = TcpProxy("")
        proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert not await fails(PeerError, bed, proxy, way, request)


@WAYS
async def test_a_read_that_is_cancelled_hands_nothing_over_afterwards(
    bed: Bed, proxy: TcpProxy, way: Way
) -> None:
    request, _ = await cached(bed)
    proxy.stall_after = 3 * BLOCK
    got: list[bytes] = []
    task = asyncio.create_task(way(bed, bed.at(proxy.address), request, got, LONG))
    await until(lambda: bool(proxy.accepted))
    task.cancel()
    begin = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < SLACK
    before = len(got)
    await proxy.close()
    assert len(got) == before


async def test_what_takes_the_bytes_may_fail(bed: Bed) -> None:
    request, data = await cached(bed)

    def fail(_: int, __: memoryview) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await bed.client.read(bed.member, request, fail, seconds=LONG)
    with pytest.raises(OSError, match="the disk is full"):
        await bed.client.read_batch(bed.member, [request], fail, seconds=LONG)
    assert await bed.read(request) == data


async def test_a_peer_that_does_not_read_holds_no_turn_for_long(bed: Bed) -> None:
    """A reader that stops reading is cut off at its deadline; others are served meanwhile."""
    data = os.urandom(256 * BLOCK)
    request = await bed.put("big", data)
    await bed.read(request)
    host, _, port = bed.server.address.rpartition(":")
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((host, int(port)))
        lazy.sendall(
            (
                f"GET {object_target(request, only_cached=True)} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {TOKEN}\r\nX-Fluidpy-Deadline: 0.5\r\n"
                f"X-Fluidpy-Definition: {request.definition}\r\n\r\n"
            ).encode()
        )
        turns = bed.server.answers.turns
        await until(lambda: bool(turns.under_way))
        assert await bed.read(request) == data
        await until(lambda: not turns.under_way)
    assert (await ask(bed.server.address, "/healthz", {})).status == 200


async def test_half_a_request_is_not_waited_for_for_ever(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_server, "IDLE_SECONDS", 0.3)
    server = PeerServer(bed.objects)
    host, _, port = (await server.start("127.0.0.1:0")).rpartition(":")
    for begun in (b"", b"GET /healthz HT"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(begun)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    await server.close()


async def test_a_connection_too_many_is_refused_at_once(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_server, "MOST_CONNECTIONS", 1)
    host, _, port = bed.server.address.rpartition(":")
    _, first = await asyncio.open_connection(host, int(port))
    first.write(b"G")
    await asyncio.sleep(0)
    reader, second = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 30) == b""
    assert bed.server.connections == 1
    first.close()
    second.close()
