"""Certificates of a pool, and TLS between its workers: both sides show theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from fluidpy.cluster.certificates import MEMBER_DAYS, Authority, ensure_authority, issue
from fluidpy.cluster.peer_client import PeerClient
from fluidpy.cluster.peer_tls import PeerTls
from fluidpy.errors import ClusterError, PeerUnreachableError
from fluidpy.storage.http_connection import SCRATCH_BYTES, connect
from fluidpy.testing.servers.object_server import ObjectServer
from tests.cluster_network.bed import BLOCK, Bed, bed_of, membership
from tests.cluster_network.raw_http import tcp_proxy

HOSTS = ("127.0.0.1", "localhost")


class Pool(NamedTuple):
    authority: Authority
    certificate: Path
    tls: PeerTls


def pool(directory: Path, name: str = "worker-0", hosts: tuple[str, ...] = HOSTS) -> Pool:
    authority = ensure_authority(directory / "authority")
    certificate = directory / f"{name}.pem"
    assert issue(authority, certificate, name, hosts)
    return Pool(authority, certificate, PeerTls(certificate, authority.certificate))


@pytest.fixture
def own(tmp_path: Path) -> Pool:
    return pool(tmp_path / "own")


@pytest.fixture
async def bed(memory_server: ObjectServer, tmp_path: Path, own: Pool) -> AsyncIterator[Bed]:
    async with bed_of(memory_server, tmp_path, own.tls.server) as bed:
        bed.client.close()
        bed.client = client(bed, own.tls)
        yield bed


def client(bed: Bed, tls: PeerTls | None) -> PeerClient:
    made = PeerClient(tls=None if tls is None else tls.client, threads=4)
    made.use(membership(bed.server.address))
    return made


async def test_everything_works_over_tls(bed: Bed) -> None:
    contents = {f"f{n}": os.urandom(3 * BLOCK * n + n) for n in range(5)}
    requests = [await bed.put(path, data) for path, data in contents.items()]
    for request, data in zip(requests, contents.values(), strict=True):
        assert await bed.read(request) == data
        assert (await bed.client.get(bed.member, request, seconds=30))[0] == data
    taken: dict[int, bytes] = {}

    def take(number: int, data: memoryview) -> None:
        taken[number] = bytes(data)

    for _ in range(2):
        errors = await bed.client.read_batch(bed.member, requests, take, seconds=60)
        assert errors == [None] * 5
        assert list(taken.values()) == list(contents.values())
    found = await bed.client.presence(bed.member, requests, seconds=30)
    assert all(each.complete for each in found[1:])


async def test_many_bytes_over_tls(bed: Bed) -> None:
    data = os.urandom(100 * BLOCK)
    request = await bed.put("big", data)
    assert await bed.read(request) == data


async def test_a_head_and_its_body_in_one_receive_are_whole_over_tls(own: Pool) -> None:
    """Records after the first were lost where the head's place had room for more of them."""
    data = os.urandom(100_000)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own.tls.server)
    async with server:
        port = server.sockets[0].getsockname()[1]
        scratch = bytearray(SCRATCH_BYTES)
        connection = await connect("127.0.0.1", port, scratch, 5.0, own.tls.client)
        for _ in range(20):
            got = await connection.ask(b"GET / HTTP/1.1\r\n\r\n", lambda head: head.length or 0)
            assert got.body == data
        connection.end()


async def test_an_authority_that_was_replaced_is_trusted_without_a_restart(
    bed: Bed, own: Pool
) -> None:
    request = await bed.put("f", b"x" * 10)
    for file in own.authority:
        file.unlink()
    authority = ensure_authority(own.authority.certificate.parent)
    assert issue(authority, own.certificate, "worker-0", HOSTS)
    assert own.tls.refresh()
    newcomer = client(bed, PeerTls(own.certificate, authority.certificate))
    assert (await newcomer.get(bed.member, request, seconds=30))[0] == b"x" * 10
    newcomer.close()


async def test_a_worker_of_another_pool_is_refused(bed: Bed, tmp_path: Path) -> None:
    request = await bed.put("f", b"x" * 10)
    other = pool(tmp_path / "other")
    stranger = PeerTls(other.certificate, tmp_path / "own" / "authority" / "authority.pem")
    for tls in (other.tls, stranger):  # it trusts another authority; it shows another one's
        asking = client(bed, tls)
        with pytest.raises(PeerUnreachableError, match="not of this pool"):
            await asking.get(bed.member, request, seconds=30)
        into = memoryview(bytearray(10))
        with pytest.raises(PeerUnreachableError, match="not of this pool"):
            await asking.read_into(bed.member, request, into, seconds=30)
        asking.close()


async def test_a_worker_at_another_address_than_its_certificate_says_is_refused(
    bed: Bed, tmp_path: Path, own: Pool
) -> None:
    request = await bed.put("f", b"x")
    issue(own.authority, own.certificate, "worker-0", ["10.0.0.1"])
    assert own.tls.refresh()
    with pytest.raises(PeerUnreachableError, match="not of this pool"):
        await bed.read(request)


async def test_plain_requests_are_not_answered(bed: Bed) -> None:
    request = await bed.put("f", b"x")
    plain = client(bed, None)
    with pytest.raises(PeerUnreachableError):
        await plain.get(bed.member, request, seconds=30)
    plain.close()


async def test_neither_token_nor_data_crosses_the_wire_in_the_clear(bed: Bed) -> None:
    data = b"these bytes are nobody's business" * 1000
    request = await bed.put("f", data)
    seen = bytearray()

    def note(_: int, passed: bytes) -> bytes:
        seen.extend(passed)
        return passed

    async with tcp_proxy(bed.server.address) as proxy:
        proxy.change = note
        assert await bed.read(request, bed.at(proxy.address)) == data
    assert len(seen) > len(data)
    assert b"nobody's business" not in seen


async def test_a_certificate_issued_anew_is_taken_up(bed: Bed, own: Pool) -> None:
    request = await bed.put("f", b"x" * 10)
    assert not own.tls.refresh()
    later = datetime.now(UTC) + timedelta(days=MEMBER_DAYS * 0.7)
    assert issue(own.authority, own.certificate, "worker-0", HOSTS, now=later) is True
    own.tls.refresh()
    with pytest.raises(PeerUnreachableError):  # it begins in the future: a clock that is wrong
        await bed.read(request)
    own.certificate.unlink()
    assert issue(own.authority, own.certificate, "worker-0", HOSTS)
    assert own.tls.refresh()
    assert await bed.read(request) == b"x" * 10


def test_certificates_stay_until_they_have_to_change(own: Pool, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    again = ensure_authority(tmp_path / "own" / "authority")
    before = again.certificate.read_bytes()
    assert again == own.authority
    assert not issue(again, own.certificate, "worker-0", HOSTS)
    soon = now + timedelta(days=MEMBER_DAYS / 2)
    assert not issue(again, own.certificate, "worker-0", HOSTS, now=soon)
    late = now + timedelta(days=MEMBER_DAYS * 2 / 3 + 1)
    assert issue(again, own.certificate, "worker-0", HOSTS, now=late)
    assert issue(again, own.certificate, "worker-0", [*HOSTS, "node-1"], now=late)
    assert ensure_authority(tmp_path / "own" / "authority").certificate.read_bytes() == before
    again.key.write_bytes(b"damaged")
    ensure_authority(tmp_path / "own" / "authority")
    assert again.certificate.read_bytes() != before
    assert issue(again, own.certificate, "worker-0", HOSTS)


def test_keys_are_for_their_owner_only(own: Pool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for path in (*own.authority, own.certificate):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.authority.key.parent.stat().st_mode) == 0o700
    assert not list(own.authority.key.parent.glob(".*"))


def test_files_of_no_use_are_named(own: Pool, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_bytes(b"nothing")
    for certificate, authority in (
        (bad, own.authority.certificate),
        (own.certificate, bad),
        (tmp_path / "none.pem", own.authority.certificate),
    ):
        with pytest.raises(ClusterError, match=r"(bad|none)\.pem") as caught:
            PeerTls(certificate, authority)
        assert caught.value.cure
    with pytest.raises(ClusterError, match="cannot be made"):
        issue(Authority(tmp_path / "none.pem", bad), tmp_path / "x.pem", "x", HOSTS)
    with pytest.raises(ClusterError, match="cannot be made"):
        ensure_authority(bad / "authority")
