"""A pool of real workers over one bucket, whose server counts what is asked of it."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from fluidpy.cache.tier import TierDefinition
from fluidpy.cluster.membership import (
    DatasetMembership,
    Member,
    Membership,
    write_membership,
)
from fluidpy.cluster.placement import Placement, unit_of
from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.namespace.object_keys import KeySource, ObjectKeys
from fluidpy.testing.servers.object_server import ObjectServer
from tests.worker.conftest import Machine, await_end

BLOCK = 65536
DATASET = "default/data"
TOKEN = "of-the-tests"
GIB = 1024**3


class CountingServer(ObjectServer):
    """Counts the bytes and requests of each object."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.gets: Counter[str] = Counter()

    def refusal(self, request: web.BaseRequest, bucket: str, key: str) -> web.Response | None:
        if key and request.method == "GET":
            size = len(self.buckets[bucket][key].data)
            start, stop = 0, size
            if asked := request.headers.get("Range", "").removeprefix("bytes="):
                first, _, last = asked.partition("-")
                start, stop = int(first), min(int(last) + 1 if last else size, size)
            self.bytes[key] += stop - start
            self.gets[key] += 1
        return None


class PoolWorker(Machine):
    """One worker of the pool, with a runtime directory, a store and a port of its own."""

    def __init__(
        self, pool: Pool, name: str, directory: Path, runtime: Path, **settings: Any
    ) -> None:
        super().__init__(
            directory,
            runtime,
            pool.server,
            pool.bucket,
            member_name=name,
            membership_file=pool.file,
            listen="127.0.0.1:0",
            **{"block_bytes": BLOCK, **settings},
        )
        self.name = name
        self.pool = pool
        self.main = self.session(pool.definition_on(directory))
        self.address = str(self.main.connection.call("hello", deadline=60.0)[0]["address"])
        self.main.attachment()

    @property
    def counters(self) -> dict[str, Any]:
        return dict(self.status()["counters"])

    def status(self) -> dict[str, Any]:
        return self.main.connection.call("status", deadline=60.0)[0]

    def read(self, path: str) -> bytes:
        return self.main.read(path)

    def end(self) -> None:
        """Killed, and not started again by those who were connected."""
        self.kill()
        for session in self.sessions:
            session.close()
            session.connection.close()

    def kill(self) -> None:
        pid = int(self.status()["pid"])
        os.kill(pid, signal.SIGKILL)
        await_end(pid)


class Pool:
    """Workers, the file that makes them a pool, and their bucket; `files` is the truth."""

    _numbers = itertools.count(1)

    def __init__(
        self,
        server: CountingServer,
        directory: Path,
        new_runtime: Callable[[], Path],
        files: dict[str, bytes],
        *,
        replicas: int = 1,
        endpoint: str = "",
        quota_bytes: int = 0,
        **settings: Any,
    ) -> None:
        self.server = server
        self.bucket = f"pool-{next(self._numbers)}"
        self.file = directory / "membership.json"
        self.directory = directory
        self.files = files
        self.replicas = replicas
        self.quota_bytes = quota_bytes
        self.previous: tuple[str, ...] = ()
        self.previous_replicas = 0
        self.draining: tuple[str, ...] = ()
        self.members: tuple[str, ...] = ()
        self.dead: tuple[Member, ...] = ()
        self.workers: dict[str, PoolWorker] = {}
        self.generation = 0
        self._new_runtime = new_runtime
        self._settings = settings
        server.buckets[self.bucket] = {}
        server.put_all(self.bucket, files)
        stand_in = Machine(directory, directory, server, "stand-in")
        stand_in.bucket = self.bucket
        self.definition: DatasetDefinition = stand_in.definition(source=stand_in.source(endpoint))

    def add(self, *names: str, **settings: Any) -> None:
        for name in names:
            directory = self.directory / name
            directory.mkdir(exist_ok=True)
            bucket = self.server.buckets[self.bucket]
            worker = PoolWorker(
                self, name, directory, self._new_runtime(), **{**self._settings, **settings}
            )
            self.server.buckets[self.bucket] = bucket
            self.workers[name] = worker

    def publish(self, *names: str, addresses: dict[str, str] | None = None) -> Membership:
        """Makes these workers (by default all) the members; waits until all know."""
        self.generation += 1
        members = tuple(
            Member(
                each.name,
                (addresses or {}).get(each.name, each.address),
                "m",
                GIB,
                draining=each.name in self.draining,
            )
            for each in self.workers.values()
        )
        members += self.dead
        self.members = names or tuple(self.workers)
        placed = DatasetMembership(
            self.members, self.replicas, self.previous, TOKEN, self.previous_replicas
        )
        membership = Membership(self.generation, members, {DATASET: placed})
        write_membership(self.file, membership)
        for worker in self.workers.values():
            while worker.status()["generation"] < self.generation:
                pass  # each answer takes a turn of the worker's loop
        return membership

    def definition_on(self, directory: Path) -> DatasetDefinition:
        """The Dataset with a tier in that directory, where tiers are limited."""
        if not self.quota_bytes:
            return self.definition
        tier = TierDefinition(str(directory / "tier"), self.quota_bytes)
        return replace(self.definition, tiers=(tier,))

    def owners(self, path: str, names: Iterable[str] = (), start: int = 0) -> tuple[str, ...]:
        """Who owns the unit at `start` of an object, if these (by default all) are the members."""
        names = tuple(names) or tuple(self.workers)
        placed = DatasetMembership(names, self.replicas, (), TOKEN)
        members = tuple(Member(name, "127.0.0.1:1", "m", GIB) for name in names)
        placement = Placement(Membership(1, members, {DATASET: placed}), DATASET)
        unit = unit_of(self.key(path), start, len(self.files[path]))
        return tuple(owner.name for owner in placement.owners(unit))

    def owned(self, name: str, names: Iterable[str], paths: Iterable[str]) -> list[str]:
        """Which of these objects a member owns, if the members are `names`."""
        return [path for path in paths if name in self.owners(path, names)]

    def key(self, path: str) -> bytes:
        session = next(iter(self.workers.values())).main
        attachment, number = session.attachment(), session.entry(path).id
        reader = CatalogReader(Path(attachment.catalog))
        try:
            entry = reader.get(number)
            sources = map(KeySource.from_wire, attachment.sources)
            assert entry is not None
            key = ObjectKeys(reader, sources).key_of(entry)
        finally:
            reader.close()
        assert key is not None
        return key

    def check(self, workers: Iterable[str], paths: Iterable[str]) -> None:
        """Each of these workers gives the right bytes of each file."""
        paths = list(paths)
        for name in workers:
            for path in paths:
                assert self.workers[name].read(path) == self.files[path], (name, path)

    def counted(self, counter: str) -> int:
        return sum(int(worker.counters[counter]) for worker in self.workers.values())

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
