"""Who waits for an answer gets it before those that nobody waits for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from fluidpy.fuse.device import Device
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import IN_HEADER, OUT_HEADER, Opcode
from fluidpy.fuse.session import FuseSession


def request(opcode: Opcode, unique: int) -> bytes:
    return IN_HEADER.pack(IN_HEADER.size, opcode, unique, 11, 0, 0, 1, 0, 0)


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
        self.session = FuseSession(
            self.loop,
            self.device,
            unused,
            unused,
            unused,
            waiting=unused,
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

    thread = 0

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
