"""A pool of worker processes over the limited source, made by a membership file written here."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cluster.limited_source import BUCKET, LimitedSource
from fluidpy.cache.tier import TierDefinition
from fluidpy.client.connection import LostConnectionError, WorkerConnection
from fluidpy.client.session import DatasetSession
from fluidpy.cluster.membership import DatasetMembership, Member, Membership, write_membership
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource

KEY = "default/pool"
TOKEN = "of-the-benchmark"
QUOTA_BYTES = 16 * 1024**3
_END_SECONDS = 20.0
_MOVE_SECONDS = 600.0
_SETTINGS = ("cache_dir", "runtime_dir", "membership_file", "member_name", "listen")
"""What a reader must know, so that it starts its worker again as it was, should it have ended."""


class PoolWorker:
    """One worker: its directories, and a session that keeps its Dataset attached."""

    def __init__(
        self, name: str, directory: Path, source: LimitedSource, file: Path, quota_bytes: int
    ) -> None:
        """Starts it."""
        directory.mkdir(mode=0o700)
        self.name = name
        self.settings = Settings(
            cache_dir=directory / "cache",
            runtime_dir=directory / "run",
            member_name=name,
            membership_file=file,
            listen="127.0.0.1:0",
        )
        options = {"endpoint": source.endpoint, "region": "us-east-1", "anonymous": "true"}
        options |= {"path_style": "true", "allow_http": "true"}
        mount = MountDefinition("m", "/", MountSource(f"s3://{BUCKET}", "m", options))
        tier = TierDefinition(str(directory / "tier"), quota_bytes)
        self.definition = DatasetDefinition("pool", "default", (mount,), (tier,))
        self.session = DatasetSession(self.definition, self.settings)
        self.address, self.pid = "", 0
        self.await_up()
        # Whoever starts it again does so where the others look for it.
        self.settings = replace(self.settings, listen=self.address)
        self.session.settings = self.settings
        self.session.connection = WorkerConnection(self.settings)
        self.session.attachment()

    def await_up(self) -> None:
        """Waits until it serves the Dataset, starting it when nobody else did."""
        while True:
            self.session.attachment()
            try:
                hello = self.session.connection.call("hello", deadline=30.0)[0]
                break
            except LostConnectionError:
                pass  # it was killed a moment ago: the next attachment is to another process
        self.address, self.pid = str(hello["address"]), int(hello["pid"])

    def kill(self) -> None:
        """Ends it with SIGKILL; returns when it has ended."""
        handle = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], _END_SECONDS)
        os.close(handle)

    def load_owned(self) -> None:
        """Has it fetch all that it owns, and nothing else."""
        answer, _ = self.session.connection.call(
            "load", deadline=600.0, dataset=self.session.attachment().dataset, owned=True
        )
        if answer["failed"]:
            raise RuntimeError(f"{self.name} could not load {answer['failures']}")

    def status(self) -> dict[str, Any]:
        """What the worker says of itself."""
        return self.session.connection.call("status", deadline=30.0)[0]

    def close(self) -> None:
        """Ends it and waits until it has ended."""
        handle = os.pidfd_open(self.pid)
        self.session.close()
        self.session.connection.close()
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], _END_SECONDS)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)


class WorkerPool:
    """The workers and the file that makes them a pool."""

    def __init__(
        self,
        directory: Path,
        source: LimitedSource,
        replicas: int = 1,
        quota_bytes: int = QUOTA_BYTES,
    ) -> None:
        """Nobody works yet; each worker will have a tier of `quota_bytes`."""
        self.directory = directory
        self.file = directory / "membership.json"
        self.source = source
        self.replicas = replicas
        self.quota_bytes = quota_bytes
        self.generation = 0
        self.membership = Membership(0, (), {})
        self.workers: dict[str, PoolWorker] = {}

    def add(self, name: str) -> PoolWorker:
        """Starts a worker; `publish` makes it a member."""
        worker = PoolWorker(name, self.directory / name, self.source, self.file, self.quota_bytes)
        self.workers[name] = worker
        return worker

    def publish(self, previous: Sequence[str] = (), draining: Sequence[str] = ()) -> None:
        """Makes all workers the members, but those that drain; returns when all of them know."""
        self.generation += 1
        members = tuple(
            Member(each.name, each.address, "m", self.quota_bytes, draining=each.name in draining)
            for each in self.workers.values()
        )
        names = tuple(name for name in self.workers if name not in draining)
        placed = DatasetMembership(names, self.replicas, tuple(previous), TOKEN)
        self.membership = Membership(self.generation, members, {KEY: placed})
        write_membership(self.file, self.membership)
        for worker in self.workers.values():
            while worker.status()["generation"] < self.generation:
                pass  # each answer takes a turn of the worker's loop

    def await_moved(self) -> float:
        """Waits until all workers have what this membership gives them; how long, in seconds."""
        began = time.monotonic()
        while not all(self._has_moved(worker.status()) for worker in self.workers.values()):
            if time.monotonic() - began > _MOVE_SECONDS:
                raise RuntimeError(f"data still moves after {_MOVE_SECONDS:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - began

    def _has_moved(self, status: dict[str, Any]) -> bool:
        moved = status["rebalance"]
        return moved["generation"] >= self.generation and bool(moved["done"])

    def remove(self, name: str) -> None:
        """Ends a worker; it leaves the members with the next `publish`."""
        self.workers.pop(name).close()

    def close(self) -> None:
        """Ends all workers."""
        for name in list(self.workers):
            self.remove(name)

    def counted(self, counter: str) -> int:
        """The sum of a counter over all workers."""
        return sum(int(each.status()["counters"][counter]) for each in self.workers.values())

    def start_reader(
        self, worker: str, seed: int, passes: int, ending: Path
    ) -> subprocess.Popen[str]:
        """A process that reads all files `passes` times (0: until the file `ending` exists) by this
        worker, in an order of its own.
        """
        member = self.workers[worker]
        order = {
            "definition": member.definition.to_wire(),
            "settings": {name: str(getattr(member.settings, name)) for name in _SETTINGS},
            "sums": str(self.directory / "sums.json"),
            "seed": seed,
            "passes": passes,
            "ending": str(ending),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cluster.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        with process.stdin:
            json.dump(order, process.stdin)
        return process


@contextmanager
def worker_pool(
    source: LimitedSource, workers: int, replicas: int = 1, quota_bytes: int = QUOTA_BYTES
) -> Iterator[WorkerPool]:
    """A pool of so many workers, `w0` and on, that know each other."""
    with tempfile.TemporaryDirectory(prefix="fp") as directory:
        pool = WorkerPool(Path(directory), source, replicas, quota_bytes)
        with closing(pool):
            for number in range(workers):
                pool.add(f"w{number}")
            pool.publish()
            yield pool
