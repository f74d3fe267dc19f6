"""What a peer server answers to requests that are wrong, come too early, or are too many."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fluidpy.cluster.peer_protocol import (
    DEADLINE_HEADER,
    DEFINITION_HEADER,
    PeerRequest,
    batch_body,
    object_target,
)
from fluidpy.errors import (
    ClusterError,
    PeerAbsentError,
    PeerBusyError,
    PeerDefinitionError,
    PeerRefusedError,
    PeerTimeoutError,
    SourceChangedError,
    SourceUnavailableError,
    UsageError,
)
from fluidpy.telemetry.metrics import Sample
from fluidpy.worker.peer_server import PeerServer
from fluidpy.worker.ready_frames import GROUP_BYTES
from tests.cluster_network.bed import BLOCK, KEY, SECRET, TOKEN, Bed, membership
from tests.cluster_network.raw_http import Reply, ask


async def target(bed: Bed, request: PeerRequest, **replaced: str) -> Reply:
    """Asks for a range with parameters of the query replaced, or left out where they are "-"."""
    path, _, query = object_target(request, only_cached=False).partition("?")
    fields = dict(item.split("=", 1) for item in query.split("&")) | replaced
    query = "&".join(f"{name}={value}" for name, value in fields.items() if value != "-")
    return await ask(bed.server.address, f"{path}?{query}", authorised(request))


def authorised(request: PeerRequest) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}", DEFINITION_HEADER: request.definition}


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"],
)
async def test_without_the_token_nothing_is_served(bed: Bed, authorization: str) -> None:
    request = await bed.put("f", b"x" * 10)
    await bed.read(request)
    headers = {"Authorization": authorization, DEFINITION_HEADER: request.definition}
    for asked in (request, request._replace(dataset="default/other")):
        reply = await ask(bed.server.address, object_target(asked, only_cached=False), headers)
        assert reply.status == 401
        assert reply.error()["type"] == "PeerRefusedError"
        assert TOKEN.encode() not in reply.body


async def test_a_client_with_an_old_token_is_told_so(bed: Bed) -> None:
    request = await bed.put("f", b"x")
    bed.client.use(membership(bed.server.address, "an-old-token"))
    with pytest.raises(PeerRefusedError, match="token"):
        await bed.read(request)


async def test_a_dataset_without_a_token_is_served_to_nobody(bed: Bed) -> None:
    request = await bed.put("f", b"x")
    bed.server.use(membership(bed.server.address, ""))
    headers = {"Authorization": "Bearer ", DEFINITION_HEADER: request.definition}
    reply = await ask(bed.server.address, object_target(request, only_cached=False), headers)
    assert reply.status == 401


@pytest.mark.parametrize(
    ("replaced", "word"),
    [
        ({"path": "../../etc/passwd"}, "no path"),
        ({"path": "%2e%2e/x"}, "no path"),
        ({"path": "/absolute"}, "no path"),
        ({"path": "a//b"}, "no path"),
        ({"path": "a%00b"}, "no path"),
        ({"path": ""}, "no path"),
        ({"path": "x" * 5000}, "no path"),
        ({"path": "-"}, "lacks path"),
        ({"mount": "%ff"}, "UTF-8"),
        ({"mount": "other"}, "no mount"),
        ({"version": "xyz"}, "hexadecimal"),
        ({"version": ""}, "version"),
        ({"version": "00" * 65}, "version"),
        ({"start": "-1"}, "start"),
        ({"start": "1"}, "blocks"),
        ({"start": "9" * 30}, "start"),
        ({"start": "%C2%B2"}, "start"),
        ({"end": "9223372036854775808"}, "end"),
        ({"end": "0"}, "within"),
        ({"end": str(1 << 40)}, "within"),
        ({"size": str(1 << 40), "end": str(1 << 40)}, "too long"),
        ({"only": "everything"}, "only"),
        ({"more": "1"}, "more"),
        ({"size": "1&size=2"}, "twice"),
    ],
)
async def test_a_malformed_query_is_refused_with_a_word(
    bed: Bed, replaced: dict[str, str], word: str
) -> None:
    request = await bed.put("f", b"x" * 10)
    reply = await target(bed, request, **replaced)
    assert reply.status == 400
    assert word in reply.error()["message"]
    assert reply.error()["type"] == "UsageError"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x", "1e9", ""])
async def test_a_deadline_is_a_number_of_seconds(bed: Bed, seconds: str) -> None:
    request = await bed.put("f", b"x")
    headers = authorised(request) | {DEADLINE_HEADER: seconds}
    reply = await ask(bed.server.address, object_target(request, only_cached=False), headers)
    assert reply.status == 400
    assert DEADLINE_HEADER in reply.error()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"objects": []}',
        b'{"objects": [1]}',
        b'{"objects": [["m", "f", "00"]]}',
        b'{"objects": [["m", "../f", "00", 1]]}',
        b'{"objects": [["m", "f", "00", -1]]}',
        b'{"objects": [["m", "f", "00", true]]}',
        b'{"objects": [["m", "f", "00", 1e3]]}',
        b'{"objects": [["m", "f", "00", 1048577]]}',
        b'{"objects": [["m", "\\ud800", "00", 1]]}',
        b'{"objects": [["m", "f", "00", 1]], "only": "x"}',
        b'{"objects": [["m", "f", "00", 1]], "more": 1}',
        b'{"objects": [' + b",".join([b'["m","f","00",1048576]'] * 17) + b"]}",
        b'{"objects": [' + b",".join([b'["m","f","00",0]'] * 4097) + b"]}",
        b"[" * 100_000,
    ],
)
async def test_a_malformed_batch_is_refused_with_a_word(bed: Bed, body: bytes) -> None:
    request = await bed.put("f", b"x")
    path = "/v1/datasets/default/data/batch"
    reply = await ask(bed.server.address, path, authorised(request), method="POST", body=body)
    assert reply.status == 400
    assert "malformed request" in reply.error()["message"]


async def test_a_body_without_end_is_refused(bed: Bed) -> None:
    request = await bed.put("f", b"x")
    path = "/v1/datasets/default/data/presence"
    body = b" " * (4 * 1024 * 1024 + 1)
    reply = await ask(bed.server.address, path, authorised(request), method="POST", body=body)
    assert reply.status == 400
    assert "longer" in reply.error()["message"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/v1/datasets/default/data/other", "GET", 404),
        ("/v1/datasets/default/data/object/more", "GET", 404),
        ("/v1/datasets/default/data/object", "PUT", 405),
        ("/v1/datasets/default/data/batch", "GET", 405),
        ("/healthz", "POST", 405),
    ],
)
async def test_other_targets_and_methods_are_refused(
    bed: Bed, path: str, method: str, status: int
) -> None:
    reply = await ask(bed.server.address, path, {}, method=method)
    assert reply.status == status
    assert reply.error()["message"]


async def test_another_definition_is_refused(bed: Bed) -> None:
    request = await bed.put("f", b"x" * 10)
    await bed.read(request)
    for other in ("", "0" * 32):
        with pytest.raises(PeerDefinitionError, match="another definition"):
            await bed.read(request._replace(definition=other))
        with pytest.raises(PeerDefinitionError):
            await bed.client.presence(bed.member, [request._replace(definition=other)], seconds=60)
        with pytest.raises(PeerDefinitionError):
            await bed.client.read_batch(
                bed.member, [request._replace(definition=other)], lambda n, d: None, seconds=60
            )


async def test_a_dataset_not_attached_is_asked_again_later(bed: Bed) -> None:
    request = PeerRequest(KEY, "0" * 32, "m", "f", b"v", 1, 0, 1)
    with pytest.raises(PeerBusyError, match="not in use"):
        await bed.read(request)


async def test_a_source_that_changed_is_told_as_such(bed: Bed) -> None:
    request = await bed.put("f", b"x" * 10)
    bed.source.put(bed.bucket, "f", b"y" * 10)
    with pytest.raises(SourceChangedError):
        await bed.read(request)
    with pytest.raises(SourceChangedError):
        await bed.client.get(bed.member, request, seconds=60)


async def test_a_source_that_fails_is_told_as_such(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await bed.put("f", b"x" * 10)

    async def fail(*_: object) -> bytes:
        raise SourceUnavailableError("the source is down", cure="Start it.")

    monkeypatch.setattr(bed.dataset.namespace.mount_named("m")[1], "read", fail)
    with pytest.raises(SourceUnavailableError, match=r"worker-0.*the source is down\. Start it\."):
        await bed.read(request)


async def test_the_server_gives_up_at_the_deadline(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await bed.put("f", b"x" * 10)

    async def hang(*_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(bed.dataset.namespace.mount_named("m")[1], "read", hang)
    headers = authorised(request) | {DEADLINE_HEADER: "0.2"}
    reply = await ask(bed.server.address, object_target(request, only_cached=False), headers)
    assert reply.status == 504
    begin = asyncio.get_running_loop().time()
    with pytest.raises((PeerTimeoutError, TimeoutError)):
        await bed.read(request, seconds=0.3)
    assert asyncio.get_running_loop().time() - begin < 20


async def test_a_worker_that_leaves_serves_what_it_has_and_fetches_nothing(bed: Bed) -> None:
    here = await bed.put("here", b"x" * 10)
    there = await bed.put("there", b"y" * 10)
    await bed.read(here)
    assert (await ask(bed.server.address, "/readyz", {})).status == 200
    bed.server.drain()
    assert (await ask(bed.server.address, "/readyz", {})).status == 503
    assert (await ask(bed.server.address, "/healthz", {})).status == 200
    assert await bed.read(here) == b"x" * 10
    with pytest.raises(PeerBusyError, match="leaving"):
        await bed.read(there)
    with pytest.raises(PeerAbsentError):
        await bed.read(there, only_cached=True)


async def test_too_many_bytes_at_once_are_refused_for_a_while(bed: Bed) -> None:
    request = await bed.put("f", b"x" * BLOCK)
    turns = bed.server.answers.turns
    turns._most_bytes, turns._most_waiting = BLOCK, 0
    async with turns.turn(BLOCK, 10):
        reply = await target(bed, request)
        assert reply.status == 503
        assert int(reply.headers["Retry-After"]) >= 1
        with pytest.raises(PeerBusyError):
            await bed.read(request)
    assert await bed.read(request) == b"x" * BLOCK


async def test_the_buffer_of_a_batch_counts_against_what_is_answered_at_once(bed: Bed) -> None:
    request = await bed.put("f", b"x" * 10)
    assert await bed.read(request) == b"x" * 10
    turns = bed.server.answers.turns
    turns._most_bytes, turns._most_waiting = 2 * GROUP_BYTES, 0
    objects: list[bytes] = []

    def taken(_: int, view: memoryview) -> None:
        objects.append(bytes(view))

    async with turns.turn(GROUP_BYTES, 10):
        with pytest.raises(PeerBusyError):
            await bed.client.read_batch(bed.member, [request], taken, seconds=60)
    assert await bed.client.read_batch(bed.member, [request], taken, seconds=60) == [None]
    assert objects == [b"x" * 10]


async def test_an_address_of_a_network_needs_tls(bed: Bed) -> None:
    server = PeerServer(bed.objects)
    with pytest.raises(UsageError, match="without TLS"):
        await server.start("0.0.0.0:0")
    for bad in ("", "x", "host:", ":1", "::1:80", "127.0.0.1:99999", "127.0.0.1:x"):
        with pytest.raises(UsageError, match="not an address"):
            await server.start(bad)
    with pytest.raises(ClusterError, match="cannot listen"):
        await server.start(bed.server.address)
    await server.close()


async def test_a_membership_that_does_not_know_the_dataset_is_told_so(bed: Bed) -> None:
    request = await bed.put("f", b"x")
    with pytest.raises(ClusterError, match="cannot be asked"):
        await bed.read(request._replace(dataset="default/other"))
    with pytest.raises(ClusterError, match="cannot be asked"):
        await bed.read(request, bed.at(""))


async def test_no_secret_is_shown(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    request = await bed.put("f", b"x" * 10)
    await bed.read(request)
    bed.client.use(membership(bed.server.address, "a-wrong-token"))
    with pytest.raises(PeerRefusedError) as caught:
        await bed.read(request)
    shown = caplog.text + str(caught.value)
    for path in ("/metrics", "/healthz", "/readyz", "/v1/datasets/default/data/object"):
        shown += repr(await ask(bed.server.address, path, {}))
    for secret in (TOKEN, SECRET, "a-wrong-token"):
        assert secret not in shown


async def test_names_that_are_not_utf8_arrive_as_they_are(bed: Bed) -> None:
    request = await bed.put("f", b"x")
    odd = request._replace(path="d \udcff/%?&=+#ü")
    with pytest.raises(PeerAbsentError, match=r"ü"):
        await bed.read(odd, only_cached=True)
    found = await bed.client.presence(bed.member, [odd], seconds=60)
    assert found[0].present_bytes == 0
    assert batch_body([odd], only_cached=False).isascii()


async def test_metrics_count_what_was_answered(bed: Bed) -> None:
    request = await bed.put("f", b"x" * 1000)
    await bed.read(request)
    await bed.read(request)
    bed.server.samples = lambda: [Sample("fluidpy_worker_datasets", 1)]
    await ask(bed.server.address, object_target(request, only_cached=False), {})
    reply = await ask(bed.server.address, "/metrics", {})
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = reply.body.decode().splitlines()
    for line in (
        "fluidpy_worker_datasets 1.0",
        'fluidpy_worker_peer_requests_total{status="200"} 2.0',
        'fluidpy_worker_peer_requests_total{status="401"} 1.0',
        'fluidpy_worker_peer_sent_bytes_total{origin="source"} 1000.0',
        'fluidpy_worker_peer_sent_bytes_total{origin="cache"} 1000.0',
        "fluidpy_worker_peer_under_way_bytes 0.0",
    ):
        assert line in lines
