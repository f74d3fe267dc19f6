"""A worker of its own for each test, its settings, and clients that leave nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.connection import LostConnectionError, WorkerConnection
from fluidpy.client.session import DatasetSession
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.object_server import ObjectServer, object_server


class Machine:
    """One user's worker, and a bucket of an S3 server in memory as its source."""

    def __init__(
        self, directory: Path, runtime: Path, server: ObjectServer, bucket: str, **settings: Any
    ) -> None:
        self.directory = directory
        self.server = server
        self.bucket = bucket
        server.buckets[bucket] = {}
        values: dict[str, Any] = {"block_bytes": 65536, "idle_seconds": 60.0, **settings}
        self.settings = Settings(cache_dir=directory / "cache", runtime_dir=runtime, **values)
        self.sessions: list[DatasetSession] = []

    def write(self, path: str, data: bytes) -> None:
        self.server.put(self.bucket, path, data)

    def remove(self, path: str) -> None:
        del self.server.buckets[self.bucket][path]

    def source(self, endpoint: str = "", **options: str) -> MountSource:
        values = {"endpoint": endpoint or self.server.endpoint, "region": "us-east-1"}
        values |= {"anonymous": "true", "path_style": "true", "allow_http": "true", **options}
        return MountSource(f"s3://{self.bucket}", "m", values)

    def definition(self, name: str = "data", **fields: Any) -> DatasetDefinition:
        source = fields.pop("source", None) or self.source()
        return DatasetDefinition(name, "default", (MountDefinition("m", "/", source),), **fields)

    def session(self, definition: DatasetDefinition | None = None) -> DatasetSession:
        session = DatasetSession(definition or self.definition(), self.settings)
        session.connection = WorkerConnection(self.settings)
        self.sessions.append(session)
        return session

    def ask(self, session: DatasetSession, operation: str, **fields: Any) -> dict[str, Any]:
        ok, fds = session.connection.call(
            operation,
            deadline=fields.pop("deadline", 60.0),
            dataset=session.attachment().dataset,
            **fields,
        )
        for fd in fds:
            os.close(fd)
        return ok

    @property
    def pid(self) -> int:
        """The worker's process, started when there is none; one being killed may still answer."""
        for attempt in range(20):
            connection = WorkerConnection(self.settings)
            try:
                return int(connection.call("status", deadline=60.0)[0]["pid"])
            except LostConnectionError:
                if attempt == 19:
                    raise
            finally:
                connection.close()
        raise AssertionError("unreachable")

    def log(self) -> str:
        return (self.settings.runtime_dir / "worker.log").read_text()

    def close(self) -> None:
        pid = 0
        with contextlib.suppress(OSError):
            pid = self.pid if self.settings.worker_socket.exists() else 0
        for session in self.sessions:
            session.close()
            session.connection.close()
        if pid:
            os.kill(pid, signal.SIGTERM)
            await_end(pid)


def await_end(pid: int, seconds: float = 60.0) -> None:
    """Waits until a process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([handle], [], [], seconds)
        assert ready, f"process {pid} did not end within {seconds} s"
    finally:
        os.close(handle)


_numbers = itertools.count(1)
MakeMachine = Callable[..., Machine]


@pytest.fixture(scope="session")
def memory_server() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture
def make_machine(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, memory_server: ObjectServer
) -> Iterator[MakeMachine]:
    made: list[Machine] = []

    def make(**settings: Any) -> Machine:
        runtime = tmp_path_factory.mktemp("r")
        runtime.chmod(0o700)
        directory = tmp_path / f"machine{len(made)}"
        directory.mkdir()
        bucket = f"bucket-{next(_numbers)}"
        made.append(Machine(directory, runtime, memory_server, bucket, **settings))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def machine(make_machine: MakeMachine) -> Machine:
    return make_machine()
