"""What a worker reads from another one: right bytes, from the cache there or fetched by it."""

from __future__ import annotations

import os

import pytest

from fluidpy.cluster.peer_protocol import FROM_CACHE, FROM_SOURCE, Presence
from fluidpy.errors import PeerAbsentError, SourceNotFoundError
from tests.cluster_network.bed import BLOCK, Bed


async def test_the_owner_fetches_once_and_serves_from_its_cache(bed: Bed) -> None:
    data = os.urandom(5 * BLOCK + 17)
    request = await bed.put("a/b.bin", data)
    into = memoryview(bytearray(len(data)))
    first = await bed.client.read_into(bed.member, request, into, seconds=60)
    assert first == FROM_SOURCE
    assert into == data
    again = await bed.client.read_into(bed.member, request, into, seconds=60, only_cached=True)
    assert again == FROM_CACHE
    assert into == data


async def test_pieces_arrive_in_order_and_in_whole_blocks(bed: Bed) -> None:
    data = os.urandom(9 * BLOCK + 5)
    request = await bed.put("f", data)
    pieces: list[tuple[int, bytes]] = []
    part = request._replace(start=2 * BLOCK)
    await bed.client.read(
        bed.member,
        part,
        lambda offset, piece: pieces.append((offset, bytes(piece))),
        seconds=60,
        piece_bytes=3 * BLOCK,
    )
    assert [offset for offset, _ in pieces] == [2 * BLOCK, 5 * BLOCK, 8 * BLOCK]
    assert b"".join(piece for _, piece in pieces) == data[2 * BLOCK :]


async def test_what_is_not_cached_is_absent_when_only_that_is_asked(bed: Bed) -> None:
    request = await bed.put("f", b"x" * 100)
    with pytest.raises(PeerAbsentError, match="not cached"):
        await bed.read(request, only_cached=True)


async def test_an_empty_object_has_no_bytes(bed: Bed) -> None:
    request = await bed.put("empty", b"")
    assert await bed.read(request) == b""


class Taken:
    """The objects of a batch as they were taken."""

    def __init__(self) -> None:
        self.objects: dict[int, bytes] = {}

    def __call__(self, number: int, data: memoryview) -> None:
        self.objects[number] = bytes(data)


async def test_a_batch_brings_many_objects_in_one_answer(bed: Bed) -> None:
    contents = {f"d/{n}": os.urandom(n * 1000) for n in range(150)}
    requests = [await bed.put(path, data) for path, data in contents.items()]
    for _ in range(2):
        taken = Taken()
        outcome = await bed.client.read_batch(bed.member, requests, taken, seconds=60)
        assert outcome == [None] * 150
        assert [taken.objects[n] for n in range(150)] == list(contents.values())


async def test_a_batch_says_what_each_object_failed_with(bed: Bed) -> None:
    here = await bed.put("here", b"1" * 5000)
    await bed.read(here)
    absent = await bed.put("absent", b"2" * 5000)
    gone = await bed.put("gone", b"3" * 5000)
    del bed.source.buckets[bed.bucket]["gone"]
    taken = Taken()
    cached = await bed.client.read_batch(
        bed.member, [absent, here], taken, seconds=60, only_cached=True
    )
    assert [type(error) for error in cached] == [PeerAbsentError, type(None)]
    assert taken.objects == {1: b"1" * 5000}
    fetched = await bed.client.read_batch(bed.member, [gone, absent], taken, seconds=60)
    assert [type(error) for error in fetched] == [SourceNotFoundError, type(None)]


async def test_presence_tells_what_there_is(bed: Bed) -> None:
    whole = await bed.put("whole", os.urandom(3 * BLOCK))
    part = await bed.put("part", os.urandom(3 * BLOCK))
    none = await bed.put("none", b"1")
    await bed.read(whole)
    await bed.read(part._replace(end=BLOCK))
    found = await bed.client.presence(bed.member, [whole, part, none], seconds=60)
    assert found[0][:2] == (3 * BLOCK, True)
    assert found[1][:2] == (BLOCK, False)
    assert found[2] == Presence(0, False, 0.0)
    assert found[1].last_use > 0


@pytest.mark.parametrize("size", [1, 100_000, 1024 * 1024])
async def test_a_short_range_comes_without_a_thread(bed: Bed, size: int) -> None:
    data = os.urandom(size)
    request = await bed.put("small", data)
    for origin in (FROM_SOURCE, FROM_CACHE):
        found, told = await bed.client.get(bed.member, request, seconds=60)
        assert found == data
        assert told == origin
    with pytest.raises(PeerAbsentError):
        await bed.client.get(
            bed.member, request._replace(path="other"), seconds=60, only_cached=True
        )
