"""A pool of worker processes over the limited source, made by a membership file written here."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cluster.limited_source import BUCKET, LimitedSource
from fluidpy.cache.tier import TierDefinition
from fluidpy.client.session import DatasetSession
from fluidpy.cluster.membership import DatasetMembership, Member, Membership, write_membership
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource

KEY = "default/pool"
TOKEN = "of-the-benchmark"
QUOTA_BYTES = 16 * 1024**3
_END_SECONDS = 20.0


class PoolWorker:
    """One worker: its directories, and a session that keeps its Dataset attached."""

    def __init__(self, name: str, directory: Path, source: LimitedSource, file: Path) -> None:
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
        tier = TierDefinition(str(directory / "tier"), QUOTA_BYTES)
        self.definition = DatasetDefinition("pool", "default", (mount,), (tier,))
        self.session = DatasetSession(self.definition, self.settings)
        self.session.attachment()
        hello = self.session.connection.call("hello", deadline=30.0)[0]
        self.address, self.pid = str(hello["address"]), int(hello["pid"])

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

    def __init__(self, directory: Path, source: LimitedSource, replicas: int = 1) -> None:
        """Nobody works yet."""
        self.directory = directory
        self.file = directory / "membership.json"
        self.source = source
        self.replicas = replicas
        self.generation = 0
        self.workers: dict[str, PoolWorker] = {}

    def add(self, name: str) -> PoolWorker:
        """Starts a worker; `publish` makes it a member."""
        worker = PoolWorker(name, self.directory / name, self.source, self.file)
        self.workers[name] = worker
        return worker

    def publish(self, previous: Sequence[str] = (), draining: Sequence[str] = ()) -> None:
        """Makes all workers the members; returns when all of them know."""
        self.generation += 1
        members = tuple(
            Member(each.name, each.address, "m", QUOTA_BYTES, draining=each.name in draining)
            for each in self.workers.values()
        )
        placed = DatasetMembership(tuple(self.workers), self.replicas, tuple(previous), TOKEN)
        write_membership(self.file, Membership(self.generation, members, {KEY: placed}))
        for worker in self.workers.values():
            while worker.status()["generation"] < self.generation:
                pass  # each answer takes a turn of the worker's loop

    def counted(self, counter: str) -> int:
        """The sum of a counter over all workers."""
        return sum(int(each.status()["counters"][counter]) for each in self.workers.values())

    def start_reader(self, worker: str, seed: int, passes: int) -> subprocess.Popen[str]:
        """A process that reads all files `passes` times by this worker, in an order of its own."""
        member = self.workers[worker]
        order = {
            "definition": member.definition.to_wire(),
            "cache_dir": str(member.settings.cache_dir),
            "runtime_dir": str(member.settings.runtime_dir),
            "sums": str(self.directory / "sums.json"),
            "seed": seed,
            "passes": passes,
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
def worker_pool(source: LimitedSource, workers: int, replicas: int = 1) -> Iterator[WorkerPool]:
    """A pool of so many workers, `w0` and on, that know each other."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fp")))
        pool = WorkerPool(directory, source, replicas)
        for number in range(workers):
            stack.enter_context(closing(pool.add(f"w{number}")))
        pool.publish()
        yield pool
