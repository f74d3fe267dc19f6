"""What one half writes the other half reads back, whatever the names."""

from __future__ import annotations

import contextlib
import os

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cluster import peer_protocol as protocol
from fluidpy.cluster.peer_protocol import MIB, PeerRequest, Presence
from fluidpy.errors import PeerAbsentError, UsageError


def _part(raw: bytes) -> bytes:
    """A part of a path, made of any bytes."""
    part = raw.replace(b"/", b"_").replace(b"\0", b"_")
    return part + b"x" if part in (b"", b".", b"..") else part


_NAMES = st.lists(st.binary(max_size=12).map(_part), min_size=1, max_size=4).map(b"/".join)
_MOUNTS = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)


@st.composite
def requests(draw: st.DrawFn) -> PeerRequest:
    size = draw(st.integers(1, 4 * MIB))
    first, last = draw(st.tuples(st.integers(0, 80), st.integers(1, 80)))
    start = min(first * 65536, (size - 1) // 65536 * 65536)
    end = min(start + last * 65536, size)
    return PeerRequest(
        "default/data",
        "digest",
        draw(_MOUNTS),
        os.fsdecode(draw(_NAMES)),
        draw(st.binary(min_size=1, max_size=64)),
        size,
        start,
        end,
    )


@given(requests(), st.booleans())
def test_a_request_survives_its_target(request: PeerRequest, only_cached: bool) -> None:
    target = protocol.object_target(request, only_cached=only_cached)
    assert target.isascii()
    assert " " not in target
    path, _, query = target.partition("?")
    assert path == "/v1/datasets/default/data/object"
    asked = protocol.parse_object("default/data", "digest", query, 65536)
    assert asked == (request, only_cached)


@given(st.lists(requests(), min_size=1, max_size=20), st.booleans())
def test_objects_survive_the_body_of_a_batch(asked: list[PeerRequest], only_cached: bool) -> None:
    whole = [each._replace(start=0, end=each.size) for each in asked]
    body = protocol.batch_body(whole, only_cached=only_cached)
    found = protocol.parse_batch(
        "default/data", "digest", body, largest=1 << 40, most_bytes=1 << 60
    )
    assert found == (whole, only_cached)


@given(st.binary(max_size=200))
def test_no_query_or_body_does_more_than_be_refused(raw: bytes) -> None:
    with contextlib.suppress(UsageError):
        protocol.parse_object("n/d", "", raw.decode("latin-1"), 4096)
    with contextlib.suppress(UsageError):
        protocol.parse_batch("n/d", "", raw, largest=1, most_bytes=1)
    protocol.parse_error(raw)
    with contextlib.suppress(ValueError):
        protocol.parse_presence(raw, 1)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_sums_survive_their_header(sums: list[int]) -> None:
    assert protocol.parse_sums(protocol.sums_text(sums)) == sums


def test_presence_and_errors_survive() -> None:
    found = [Presence(5, True, 1.5), Presence(0, False, 0.0)]
    assert protocol.parse_presence(protocol.presence_body(found), 2) == found
    error = PeerAbsentError("not here", cure="Look elsewhere.")
    told = protocol.parse_error(protocol.error_body(error))
    assert type(told) is PeerAbsentError
    assert (told.message, told.cure) == (error.message, error.cure)
