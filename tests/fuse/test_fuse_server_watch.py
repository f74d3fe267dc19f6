from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.client import protocol
from fluidpy.fuse.control import socket_pair
from fluidpy.fuse.server_processes import ServerProcess
from fluidpy.fuse.server_watch import (
    GONE_CHECKS,
    HUNG_CHECKS,
    RECENT_SECONDS,
    ServerWatch,
    patience,
)


@pytest.fixture
def theirs() -> Iterator[socket.socket]:
    ours, theirs = socket_pair()
    with ours, theirs:
        theirs.setblocking(False)
        Served.channel = ours
        yield theirs


class Served(ServerProcess):
    """A server that is this process, on whose part the test answers."""

    channel: socket.socket

    def __init__(self) -> None:
        super().__init__(self.channel)
        self.pid = os.getpid()
        self.serving = self.answers = True

    def release(self) -> None:
        """The test closes the socket."""


def asked(theirs: socket.socket) -> int:
    """How often it was asked for a sign of life."""
    count = 0
    while True:
        try:
            received = protocol.receive(theirs)
        except BlockingIOError:
            return count
        assert received is not None
        assert received.message == {"ping": {}}
        count += 1


def test_a_server_that_answers_is_left_alone(theirs: socket.socket) -> None:
    watch, server = ServerWatch(), Served()
    for _ in range(10 * HUNG_CHECKS):
        assert watch.check(server, connected=True) == ""
        if asked(theirs):
            watch.answered(server)


def test_one_that_does_not_answer_is_asked_once_and_then_ended(theirs: socket.socket) -> None:
    now = 0.0
    watch, server = ServerWatch(lambda: now), Served()
    for patient in (HUNG_CHECKS, 2 * HUNG_CHECKS):
        assert [watch.check(server, connected=True) for _ in range(patient)] == [""] * patient
        assert watch.check(server, connected=True) == "answers nothing"
        assert asked(theirs) == 1
        server = Served()
    now = RECENT_SECONDS + 1
    assert [watch.check(server, connected=True) for _ in range(HUNG_CHECKS)] == [""] * HUNG_CHECKS
    assert watch.check(server, connected=True) == "answers nothing"


def test_the_silence_of_one_server_is_not_held_against_the_next(theirs: socket.socket) -> None:
    watch, first, second = ServerWatch(), Served(), Served()
    for _ in range(HUNG_CHECKS):
        assert watch.check(first, connected=True) == ""
    for _ in range(HUNG_CHECKS):
        assert watch.check(second, connected=True) == ""
    watch.answered(first)
    assert watch.check(second, connected=True) == "answers nothing"


def test_servers_of_older_code_are_not_asked(theirs: socket.socket) -> None:
    watch, server = ServerWatch(), Served()
    server.answers = False
    for _ in range(3 * HUNG_CHECKS):
        assert watch.check(server, connected=True) == ""
    assert asked(theirs) == 0


@pytest.mark.parametrize("there", [False, True])
def test_a_mount_that_is_gone_has_its_server_ended(theirs: socket.socket, there: bool) -> None:
    watch = ServerWatch()
    server = Served() if there else None
    for _ in range(2):
        for _ in range(GONE_CHECKS - 1):
            assert watch.check(server, connected=False) == ""
        assert watch.check(server, connected=True) == ""
    said = [watch.check(server, connected=False) for _ in range(GONE_CHECKS)]
    assert said == [""] * (GONE_CHECKS - 1) + ["does not see that its mount is gone"]


@given(st.lists(st.floats(0, 1e6)), st.floats(0, 1e6))
def test_patience_grows_with_each_server_that_hung_lately_and_is_bounded(
    hangs: list[float], now: float
) -> None:
    found = patience(hangs, now)
    assert HUNG_CHECKS <= found <= 32 * HUNG_CHECKS
    assert patience([*hangs, now], now) >= found
    assert patience([at for at in hangs if now - at < RECENT_SECONDS], now) == found
