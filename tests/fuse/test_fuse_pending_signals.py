"""Which signals of a waiting caller end its wait."""

from __future__ import annotations

import errno
import signal
from typing import cast

import pytest

from fluidpy.fuse.device import Device
from fluidpy.fuse.pending_signals import thread_wants_to_end, wants_to_end
from fluidpy.fuse.requests_in_flight import RequestsInFlight, TroubleLog


def status(pending: int = 0, shared: int = 0, blocked: int = 0) -> str:
    fields = {"SigPnd": pending, "ShdPnd": shared, "SigBlk": blocked}
    return "Name:\tpython\n" + "".join(f"{n}:\t{value:016x}\n" for n, value in fields.items())


def bit(number: signal.Signals) -> int:
    return 1 << (number - 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_ending_signal_counts_wherever_it_is_pending(number: signal.Signals) -> None:
    assert wants_to_end(status(pending=bit(number)))
    assert wants_to_end(status(shared=bit(number)))


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGPROF, signal.SIGURG, signal.SIGTSTP])
def test_a_signal_in_passing_does_not_count(number: signal.Signals) -> None:
    assert not wants_to_end(status(pending=bit(number), shared=bit(number)))


def test_a_blocked_signal_does_not_count() -> None:
    assert not wants_to_end(status(shared=bit(signal.SIGINT), blocked=bit(signal.SIGINT)))


def test_a_thread_that_cannot_be_seen_is_not_kept() -> None:
    assert thread_wants_to_end(0)


class FakeDevice:
    def __init__(self) -> None:
        self.errors: list[tuple[int, int]] = []

    def reply_error(self, unique: int, code: int) -> None:
        self.errors.append((unique, code))


def test_a_request_that_went_on_waiting_ends_with_a_later_signal() -> None:
    device, ending = FakeDevice(), set[int]()
    waiting = RequestsInFlight(cast("Device", device), TroubleLog("test"), ending.__contains__)
    waiting.thread = 41
    waiting.begin(1)
    waiting.thread = 42
    waiting.begin(2)
    waiting.interrupt(1)
    waiting.check_interrupted()
    assert device.errors == []
    ending.update({41, 42})
    waiting.check_interrupted()
    assert device.errors == [(1, errno.EINTR)]
    assert waiting.waits(2)
