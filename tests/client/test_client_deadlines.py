"""Calls end within their deadline, whatever happens to the worker meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from fluidpy.client import session as session_module
from fluidpy.client.file import ObjectReader
from fluidpy.client.session import DatasetSession
from fluidpy.errors import DatasetNotFoundError, WorkerTimeoutError
from tests.client.conftest import NamedDefinition
from tests.client.fake_worker import BLOCK, FakeWorker


@pytest.fixture
def impatient(fake: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> DatasetSession:
    """A session whose calls may take a second."""
    monkeypatch.setattr(session_module, "_GRACE_SECONDS", 0.5)
    return DatasetSession(NamedDefinition(), replace(fake.settings, source_deadline_seconds=0.5))


def test_a_read_has_one_deadline_also_when_it_opens_the_file_again(
    fake: FakeWorker, impatient: DatasetSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.put("f", b"x" * BLOCK, complete=False)
    left: list[tuple[str, float]] = []
    call = impatient.connection.call

    def noted(operation: str, *, deadline: float, **fields: Any) -> Any:
        left.append((operation, deadline))
        return call(operation, deadline=deadline, **fields)

    released = threading.Event()

    def die_then_hang(operation: str, _: object) -> None:
        if operation == "read":
            time.sleep(0.6)
            for peer in fake._peers:
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
        elif operation == "open":
            released.wait(60)

    with ObjectReader(impatient, impatient.open_object("f")) as reader:
        fake.hook = die_then_hang
        monkeypatch.setattr(impatient.connection, "call", noted)
        begin = time.monotonic()
        with pytest.raises(WorkerTimeoutError):
            reader.read_range(0, 10)
        assert 0.9 < time.monotonic() - begin < 20
        released.set()
        fake.hook = None
    (first, deadline), *later = left
    assert (first, deadline <= 1.0) == ("read", True)
    assert all(deadline <= 0.4 for _, deadline in later), left


def test_a_name_waits_for_the_mount_to_attach_it_to_a_new_worker(fake: FakeWorker) -> None:
    fake.put("f", b"x")
    session = DatasetSession("default/demo", fake.settings)
    assert session.read("f") == b"x"
    fake.restart()
    left = [3]

    def not_yet(operation: str, _: object) -> None:
        if operation == "attach" and left[0]:
            left[0] -= 1
            raise DatasetNotFoundError("Dataset default/demo is not in use on this machine")

    fake.hook = not_yet
    assert session.read("f") == b"x"
    assert left == [0]


def test_a_name_that_no_mount_attaches_again_is_said_to_be_gone(
    fake: FakeWorker, impatient: DatasetSession
) -> None:
    fake.put("f", b"x")
    session = DatasetSession("default/demo", impatient.settings)
    assert session.read("f") == b"x"

    def never(operation: str, _: object) -> None:
        if operation == "attach":
            raise DatasetNotFoundError("Dataset default/demo is not in use on this machine")

    fake.restart()
    fake.hook = never
    begin = time.monotonic()
    with pytest.raises(DatasetNotFoundError, match="its mount does not attach it again"):
        session.read("f")
    assert time.monotonic() - begin < 20
    unknown = DatasetSession("default/other", fake.settings)
    with pytest.raises(DatasetNotFoundError, match="not in use"):
        unknown.read("f")
