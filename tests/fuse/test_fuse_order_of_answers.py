"""Who waits for an answer gets it before those that nobody waits for; who is alone is known."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fluidpy.fuse.device import Device
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import IN_HEADER, OUT_HEADER, Opcode
from fluidpy.fuse.requests_in_flight import COMPANY
from fluidpy.fuse.session import FuseSession


def request(opcode: Opcode, unique: int, thread: int = 1) -> bytes:
    return IN_HEADER.pack(IN_HEADER.size, opcode, unique, 11, 0, 0, thread, 0, 0)


class Opens:
    """Answers at once, or after others."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def open(self, unique: int, _node: int) -> None:
        self._device.reply(unique, b"opened")

    def release(self, unique: int, _node: int) -> None:
        self._device.reply_after_others(unique)


class Bed:
    """A session whose kernel is the other end of a pair of sockets."""

    def __init__(self) -> None:
        self.kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(30)
        self.refused: list[OSError] = []
        self.loop = EventLoop()
        self.device = Device(ours.detach(), self.refused.append)
        unused = cast("Any", _Unused())
        self.waiting = SimpleNamespace(thread=0, company=0)
        self.session = FuseSession(
            self.loop,
            self.device,
            unused,
            unused,
            unused,
            waiting=cast("Any", self.waiting),
            directories=unused,
            files=unused,
            opens=cast("Any", Opens(self.device)),
            statistics=unused,
            trouble=unused,
            on_negotiated=unused,
            on_end=unused,
        )

    def serve(self, *requests: bytes) -> list[int]:
        """Sends requests, all before the first is looked at; whose answers came, in their order."""
        for one in requests:
            self.kernel.send(one)
        self.session.start()
        self.loop.call_soon(self.loop.stop)
        self.loop.run()
        self.session.stop_reading()
        return [OUT_HEADER.unpack_from(self.kernel.recv(4096))[2] for _ in requests]

    def close(self) -> None:
        self.device.close()
        self.kernel.close()
        self.loop.close()


class _Unused:
    """Parts of a session that these requests do not reach."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments: None


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.close()


def test_an_open_is_answered_before_the_release_that_came_first(bed: Bed) -> None:
    released, opened = request(Opcode.RELEASE, 2), request(Opcode.OPEN, 4)
    assert bed.serve(released, opened) == [4, 2]


def test_releases_are_answered_though_nothing_follows(bed: Bed) -> None:
    assert bed.serve(request(Opcode.RELEASE, 2), request(Opcode.RELEASE, 4)) == [2, 4]
    assert bed.serve(request(Opcode.RELEASE, 6)) == [6]
    assert not bed.refused


Asked = tuple[Opcode, int]
LOOK, OPEN, READ = Opcode.LOOKUP, Opcode.OPEN, Opcode.READ
ONE: list[Asked] = [(LOOK, 7), (READ, 7)]
OPENED: list[Asked] = [(LOOK, 7), (OPEN, 7), (READ, 7), (Opcode.RELEASE, 0)]
FORGETTING: list[Asked] = [(READ, 7), (Opcode.FORGET, 0), (READ, 7), (Opcode.BATCH_FORGET, 0)]


@pytest.mark.parametrize(
    ("asked", "alone"),
    [
        pytest.param(ONE, True, id="one"),
        pytest.param(OPENED, True, id="one, whose files are opened and closed"),
        pytest.param(FORGETTING, True, id="one, while the kernel forgets"),
        pytest.param([(READ, 7), (READ, 8)], False, id="two"),
        pytest.param([(READ, 0)], False, id="who is not to be seen"),
        pytest.param([*ONE, (READ, 0)], False, id="one, and who is not to be seen"),
    ],
)
def test_whether_one_thread_alone_asks_is_known(bed: Bed, asked: list[Asked], alone: bool) -> None:
    for opcode, thread in asked * (2 * COMPANY):
        bed.session.handle(memoryview(request(opcode, 2, thread)))
    assert bool(bed.waiting.company) != alone


def test_a_thread_that_others_have_left_alone_is_known_soon(bed: Bed) -> None:
    for thread in (7, 8):
        bed.session.handle(memoryview(request(READ, 2, thread)))
    for left in range(COMPANY, 0, -1):
        assert bed.waiting.company == left
        bed.session.handle(memoryview(request(READ, 2, 8)))
    assert not bed.waiting.company
