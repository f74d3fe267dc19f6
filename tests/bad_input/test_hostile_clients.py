"""Whoever talks nonsense to the worker, or too much, or is somebody else, harms nobody else."""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.conftest import Refusals, dataset
from tests.bad_input.test_bad_places import NOBODY
from tests.cli.conftest import command_line_in

SECONDS = 60.0
"""Far below the default deadline of a request, and far above what an answer takes."""


class Client:
    """Speaks to the worker's socket without the manners of a real client."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(os.fspath(path))
        self.socket.settimeout(SECONDS)

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    def answer(self) -> dict[str, Any] | None:
        """The next message; None when the worker hung up."""
        try:
            data = self.socket.recv(200_000)
        except ConnectionError:
            return None
        return json.loads(data) if data else None

    def ask(self, **fields: Any) -> dict[str, Any]:
        self.send(json.dumps({"id": 1, **fields}).encode())
        answer = self.answer()
        assert answer is not None
        return answer

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusals]:
    """A worker that serves a Dataset as number 1, and still does when all tests are through."""
    top = tmp_path_factory.mktemp("hostile")
    (top / "source").mkdir()
    (top / "source" / "a.txt").write_bytes(b"a")
    (top / "d.yaml").write_text(dataset(f"local://{top}/source"))
    with command_line_in(top) as line:
        line.done("ls", "-f", "d.yaml", "fluid://pets/")
        running = Refusals(line)
        process = running.worker()
        yield running
        assert line.done("ls", "-f", "d.yaml", "fluid://pets/") == "a.txt\n"
        assert running.worker() == process
        assert "Traceback" not in (running.runtime / "worker.log").read_text()


@pytest.fixture
def worker(shared: Refusals) -> Path:
    """The socket of the worker."""
    return shared.runtime / "worker.sock"


@pytest.fixture
def client(worker: Path) -> Iterator[Client]:
    client = Client(worker)
    yield client
    client.close()


HUGE = 10**30
NONSENSE: list[dict[str, Any]] = [
    {"op": "nothing"},
    {"op": ["hello"]},
    {},
    {"op": "attach"},
    {"op": "attach", "definition": {}},
    {"op": "attach", "definition": [1]},
    {"op": "attach", "name": "../../etc/passwd"},
    {"op": "lookup", "dataset": 1, "parent": HUGE, "name": "x"},
    {"op": "lookup", "dataset": 1, "parent": 1.5, "name": "x"},
    {"op": "lookup", "dataset": 1, "parent": 1, "name": "\ud800"},
    {"op": "lookup", "dataset": HUGE, "parent": 1, "name": "x"},
    {"op": "resolve", "dataset": 1, "path": "\ud800"},
    {"op": "resolve", "dataset": 1, "path": "a\0b"},
    {"op": "resolve", "dataset": 1, "path": "../../etc/passwd"},
    {"op": "resolve", "dataset": 1, "path": "a.txt", "deadline": "soon", "refresh": True},
    {"op": "resolve", "dataset": 1, "path": "a.txt", "deadline": float("nan"), "refresh": True},
    {"op": "list", "dataset": 1, "directory": -5},
    {"op": "list", "dataset": 1, "directory": HUGE, "entries": True},
    {"op": "open", "dataset": 1, "entry": HUGE},
    {"op": "open", "dataset": 1, "entry": 123456},
    {"op": "read", "dataset": 1, "handle": 1, "start": 0, "end": 5},
    {"op": "read", "dataset": 1, "handle": {}, "start": -1, "end": HUGE},
    {"op": "load", "dataset": 1, "paths": "a.txt"},
    {"op": "load", "dataset": 1, "paths": [1]},
    {"op": "load", "dataset": 1, "paths": ["\ud800"]},
    {"op": "pin", "dataset": 1, "path": "\ud800", "on": 3},
    {"op": "evict", "dataset": 1, "path": 5},
]


@pytest.mark.parametrize("request_", NONSENSE, ids=str)
def test_nonsense_is_answered(client: Client, request_: dict[str, Any]) -> None:
    error = client.ask(**request_)["error"]
    assert "failed at this request" not in error["message"]
    assert "ok" in client.ask(op="hello", version=1)


@pytest.mark.parametrize(
    "message",
    [b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b'{"a":' * 20_000, b"x" * 190_000],
    ids=["open", "binary", "list", "null", "deep list", "deep object", "long"],
)
def test_what_is_no_message_ends_the_connection(client: Client, message: bytes) -> None:
    client.send(message)
    assert client.answer() is None


@pytest.mark.parametrize("closed", [5, "abc", {"a": 1}, [[]], [HUGE]])
def test_handles_that_are_none_are_passed_over(client: Client, closed: Any) -> None:
    client.send(json.dumps({"op": "close", "handles": closed}).encode())
    assert client.ask(op="hello", version=1, closed=closed)["id"] == 1


def open_files(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def test_passed_descriptors_are_not_kept(shared: Refusals, worker: Path) -> None:
    process = shared.worker()
    before = open_files(process)
    for count in (1, 16, 17, 200):
        client = Client(worker)
        fds = array.array("i", [0] * count)
        with contextlib.suppress(OSError):
            client.socket.sendmsg(
                [b'{"id":1,"op":"hello","version":1}'],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds.tobytes())],
            )
            client.answer()
        client.close()
    limit = time.monotonic() + SECONDS
    while open_files(process) > before and time.monotonic() < limit:
        time.sleep(0.01)  # the worker closes when its loop comes round
    assert open_files(process) <= before


def test_a_client_that_never_reads_stops_nobody(worker: Path) -> None:
    deaf, other = Client(worker), Client(worker)
    deaf.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(1_000_000):
            deaf.send(b'{"id":1,"op":"status"}')
        pytest.fail("the worker goes on reading from a client that reads no answers")
    assert "ok" in other.ask(op="hello", version=1)
    deaf.close()
    other.close()


def test_two_thousand_clients(shared: Refusals, worker: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    clients = [Client(worker) for _ in range(2000)]
    for client in clients:
        client.send(b'{"id":1,"op":"hello","version":1}')
    pids = {answer["ok"]["pid"] for client in clients if (answer := client.answer())}
    assert pids == {shared.worker()}
    for client in clients:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_is_refused(shared: Refusals, worker: Path) -> None:
    child = os.fork()
    if child == 0:  # what follows runs as somebody else, and must not run pytest's own end
        os._exit(_as_nobody(worker))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 13
    shared.runtime.chmod(0o711)  # even where the modes let him through, his uid tells
    worker.chmod(0o666)
    child = os.fork()
    if child == 0:
        os._exit(_as_nobody(worker))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shared.runtime.chmod(0o700)


def _as_nobody(path: Path) -> int:
    """0 when the worker hung up, 1 when it answered, else the errno of connecting."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        client = Client(path)
        client.send(b'{"id":1,"op":"hello","version":1}')
    except ConnectionError:
        return 0
    except OSError as error:
        return error.errno or 99
    return 0 if client.answer() is None else 1
