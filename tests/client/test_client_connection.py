from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidpy.client import protocol
from fluidpy.client.connection import LostConnectionError, WorkerConnection
from fluidpy.client.protocol import Message
from fluidpy.errors import WorkerTimeoutError
from fluidpy.settings import Settings
from tests.client.fake_worker import FakeWorker
from tests.model.place import until


def test_many_threads_share_one_connection_and_get_their_own_answers(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    turn = threading.Barrier(8)

    def hook(operation: str, message: Message) -> None:
        if operation == "slow" and message["value"] % 8 == 0:
            time.sleep(0.01)  # answers overtake each other

    fake.hook = hook

    def ask(start: int) -> bool:
        turn.wait(60)
        for value in range(start, start + 50):
            ok, _ = connection.call("slow", deadline=60, value=value)
            if ok["echo"] != value:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(0, 800, 100)))
    assert sum(message["op"] == "hello" for message in fake.requests) == 1
    connection.close()


def test_a_late_answer_is_a_timeout_and_harms_no_later_call(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    go_on = threading.Event()

    def hook(operation: str, message: Message) -> None:
        if message.get("value") == "late":
            go_on.wait(60)

    fake.hook = hook
    connection.connect()
    with pytest.raises(WorkerTimeoutError, match="did not answer `slow` within the deadline"):
        connection.call("slow", deadline=0.05, value="late")
    go_on.set()
    assert connection.call("slow", deadline=60, value="next")[0] == {"echo": "next"}
    connection.close()


def test_the_file_of_an_abandoned_open_is_closed_and_its_handle_released(fake: FakeWorker) -> None:
    fake.put("a", b"content")
    connection = WorkerConnection(fake.settings)
    connection.connect()
    go_on = threading.Event()

    def wait_on_open(operation: str, _: Message) -> None:
        if operation == "open":
            go_on.wait(60)

    fake.hook = wait_on_open
    fake.settle()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(WorkerTimeoutError):
        connection.call("open", deadline=0.05, dataset=1, path="a")
    go_on.set()
    deadline = time.monotonic() + 60
    while 1 not in fake.released and time.monotonic() < deadline:
        connection.call("slow", deadline=60)
    assert 1 in fake.released
    fake.settle()
    assert len(os.listdir("/proc/self/fd")) == before
    connection.close()


def test_everyone_waiting_is_told_when_the_worker_dies(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    connection.connect()
    arrived = threading.Barrier(4)
    go_on = threading.Event()

    def hook(operation: str, _: Message) -> None:
        if operation == "slow":
            arrived.wait(60)
            go_on.wait(60)

    fake.hook = hook

    def ask(_: int) -> bool:
        try:
            connection.call("slow", deadline=60)
        except LostConnectionError:
            return True
        return False

    with ThreadPoolExecutor(3) as pool:
        lost = [pool.submit(ask, number) for number in range(3)]
        arrived.wait(60)
        connection.close()
        assert all(future.result() for future in lost)
    go_on.set()


def test_ids_of_one_worker_are_never_asked_of_another(fake: FakeWorker) -> None:
    """Both were the first connection of theirs, so a handle of one was read at the other."""
    one, other = WorkerConnection(fake.settings), WorkerConnection(fake.settings)
    first = one.connect()
    other.connect()
    with pytest.raises(LostConnectionError):
        other.call("status", deadline=60, generation=first)
    one.close()
    other.close()


def test_a_lost_connection_is_not_waited_for_by_its_old_number(
    fake: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed while somebody waits for an answer, and its fd's number given to another file."""
    connection = WorkerConnection(fake.settings)
    generation = connection.connect()
    asked, go_on = threading.Event(), threading.Event()

    def hook(operation: str, _: Message) -> None:
        if operation == "slow":
            asked.set()
            go_on.wait(60)

    fake.hook = hook
    lost = connection._socket
    assert lost is not None
    number, retire = lost.fileno(), connection._retire
    ours, theirs = os.pipe()

    def retire_slowly(retired: socket.socket) -> None:
        retire(retired)
        assert until(lambda: lost.fileno() < 0)
        os.dup2(ours, number)
        time.sleep(0.1)  # so that whoever waits might begin to wait for the pipe

    monkeypatch.setattr(connection, "_retire", retire_slowly)
    try:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(connection.call, "slow", deadline=60, generation=generation)
            assert asked.wait(60)
            begin = time.monotonic()
            connection.close()
            go_on.set()
            with pytest.raises(LostConnectionError):
                call.result()
            assert time.monotonic() - begin < 30
    finally:
        for fd in (ours, theirs, number):
            os.close(fd)


def test_ids_of_an_earlier_connection_are_refused_without_asking(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    first = connection.connect()
    connection.close()
    with pytest.raises(LostConnectionError):
        connection.call("slow", deadline=60, generation=first)
    assert connection.connect() == first + 1
    with pytest.raises(LostConnectionError):
        connection.call("slow", deadline=60, generation=first)
    assert [message["op"] for message in fake.requests] == ["hello", "hello"]
    connection.close()


def test_a_forked_child_makes_a_connection_of_its_own(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    connection.call("slow", deadline=60, value="parent")
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            ok, _ = connection.call("slow", deadline=60, value="child")
            os._exit(0 if ok == {"echo": "child"} else 3)
        except BaseException:  # noqa: BLE001 - the child must not go on as a test run
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert connection.call("slow", deadline=60, value="parent")[0] == {"echo": "parent"}
    assert sum(message["op"] == "hello" for message in fake.requests) == 2
    connection.close()


def test_handles_go_back_with_the_next_request_or_in_a_batch(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    generation = connection.connect()
    connection.release(7, generation, 100)
    assert fake.released == []
    connection.call("slow", deadline=60)
    assert fake.released == [7]
    for handle in range(16):
        connection.release(handle, generation, 0)
    connection.call("slow", deadline=60)
    closing = [message for message in fake.requests if message["op"] == "close"]
    assert [message["handles"] for message in closing] == [list(range(16))]
    assert all("id" not in message for message in closing)
    connection.close()


def test_closing_many_files_does_not_fail_when_the_worker_has_died(fake: FakeWorker) -> None:
    connection = WorkerConnection(fake.settings)
    generation = connection.connect()
    fake.restart()
    for handle in range(40):
        connection.release(handle, generation, 100 * 1024 * 1024)
    assert not connection.connected
    connection.close()


def test_closing_files_does_not_fail_while_the_worker_reads_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with protocol.new_socket() as listener:
        listener.bind(os.fspath(settings.worker_socket))
        listener.listen()
        connection = WorkerConnection(settings)
        with ThreadPoolExecutor(1) as pool:
            connecting = pool.submit(connection.connect)
            peer, _ = listener.accept()
            asked = protocol.receive(peer)
            assert asked is not None
            ok = {"version": protocol.PROTOCOL_VERSION, "block_bytes": 1 << 20}
            protocol.send(peer, protocol.answer(asked.message["id"], ok))
            generation = connecting.result(30)
        handle = 0
        while connection.connected:  # until the socket takes no more, and then for a second
            connection.release(handle, generation, 100 * 1024 * 1024)
            handle += 1
        peer.close()
    assert handle > 1
