from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.client import protocol
from fluidpy.client.protocol import RemoteEntry
from fluidpy.errors import PathNotFoundError, WorkerError

ENTRIES = st.builds(
    RemoteEntry,
    id=st.integers(1, 2**62),
    parent=st.integers(1, 2**62),
    name=st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name),
    kind=st.integers(1, 3),
    size=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
    mode=st.none() | st.integers(0, 0o7777),
    ino=st.integers(1, 2**62),
    version=st.binary(max_size=64),
    mount=st.integers(-1, 100),
    live=st.booleans(),
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        yield left, right


@given(st.lists(ENTRIES, max_size=5))
def test_entries_survive_the_wire_whatever_their_names(entries: list[RemoteEntry]) -> None:
    data = protocol.encode_entries(entries)
    assert list(protocol.decode_entries(data)) == entries
    assert data.isascii()


@given(ENTRIES)
def test_an_entry_has_the_declared_fields_in_order(entry: RemoteEntry) -> None:
    assert RemoteEntry._fields == protocol.ENTRY_FIELDS
    assert len(protocol.entry_to_wire(entry)) == len(protocol.ENTRY_FIELDS)


@given(st.binary(max_size=200))
def test_garbage_is_a_worker_error_and_nothing_else(data: bytes) -> None:
    try:
        value = protocol.decode(data)
    except WorkerError:
        return
    assert isinstance(value, dict)


@pytest.mark.parametrize("wire", [[], [1, 2], ["x"] * 11, [1, 1, 2, 1, 0, 0, None, 1, "zz", 0, 1]])
def test_a_malformed_entry_is_a_worker_error(wire: list[object]) -> None:
    with pytest.raises(WorkerError, match="protocol was broken"):
        protocol.entry_from_wire(wire)


def test_fds_travel_with_their_message(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    read_end, write_end = os.pipe()
    protocol.send(left, {"id": 1}, [write_end])
    os.close(write_end)
    received = protocol.receive(right)
    assert received is not None
    assert received.message == {"id": 1}
    os.write(received.fds[0], b"through")
    assert not os.get_inheritable(received.fds[0])
    protocol.close_all(received.fds)
    assert os.read(read_end, 100) == b"through"
    os.close(read_end)


def test_a_closed_peer_is_none(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.close()
    assert protocol.receive(right) is None


def test_a_message_may_be_as_long_as_declared_and_no_longer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = pair
    room = protocol.MAX_MESSAGE_BYTES - len(protocol.encode({"x": ""}))
    protocol.send(left, {"x": "a" * room})
    received = protocol.receive(right)
    assert received is not None
    assert len(received.message["x"]) == room
    with pytest.raises(WorkerError, match="longer than the protocol"):
        protocol.send(left, {"x": "a" * protocol.MAX_CARRIED_BYTES})


def test_a_long_message_travels_in_a_memfd_with_its_fds(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    left, right = pair
    path = tmp_path / "passed"
    path.write_bytes(b"beside")
    long = {"id": 1, "x": "a" * (3 * protocol.MAX_MESSAGE_BYTES)}
    before = len(os.listdir("/proc/self/fd"))
    with path.open("rb") as stream:
        protocol.send(left, long, [stream.fileno()])
    received = protocol.receive(right)
    assert received is not None
    assert received.message == long
    assert os.pread(received.fds[0], 10, 0) == b"beside"
    protocol.close_all(received.fds)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_carried_message_without_its_memfd_is_broken(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = pair
    left.send(b'{"carried":200000}')
    with pytest.raises(WorkerError, match="without its memfd"):
        protocol.receive(right)


def test_a_broken_message_leaves_no_fd_open(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    read_end, write_end = os.pipe()
    socket.send_fds(left, [b"not json"], [write_end])
    os.close(write_end)
    with pytest.raises(WorkerError):
        protocol.receive(right)
    assert os.read(read_end, 1) == b""  # the last writer is gone
    os.close(read_end)


def test_errors_come_back_as_they_were_raised() -> None:
    message = protocol.failure(3, PathNotFoundError("no such thing", cure="Look elsewhere."))
    with pytest.raises(PathNotFoundError, match=r"no such thing\. Look elsewhere\."):
        protocol.ok_of(protocol.decode(protocol.encode(message)))


def test_an_answer_whose_fd_finds_no_room_says_so_and_the_next_one_is_whole() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        protocol.send(theirs, protocol.answer(7, {"handle": 3}), [0])
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            received = protocol.receive(ours)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert received is not None
        assert received.message["id"] == 7
        assert received.fds == []
        with pytest.raises(WorkerError, match=rf"all the {lowest_free} files open.*ulimit -n"):
            protocol.ok_of(received.message)
        protocol.send(theirs, protocol.answer(8, {}), [0])
        again = protocol.receive(ours)
        assert again is not None
        assert len(again.fds) == 1
        protocol.close_all(again.fds)
