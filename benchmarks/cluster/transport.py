"""Warm reads of another worker's data against plain sendfile over a loopback socket.

The limit is one process that sends one file of 1 GiB and one that receives into a buffer of 8 MiB.
Batches are compared with it, and beside that with one that sends the same files of 100 KB.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.cluster.bed import KEY, PoolWorker, WorkerPool, worker_pool
from benchmarks.cluster.limited_source import BUCKET, limited_source
from benchmarks.pairs import Comparison, Outcome, compare
from fluidpy.cluster.membership import Member, read_membership
from fluidpy.cluster.peer_client import PeerClient
from fluidpy.cluster.peer_protocol import MOST_BATCH_BYTES, PeerRequest

MIB = 1024 * 1024
RANGE = 8 * MIB
"""As long as a part: what a worker asks for at once by default."""

SMALL = 100_000
PAIRS, QUICK_PAIRS = 15, 2
SECONDS = 60.0
AT_LEAST = 0.5

FILE, FILES = LIMITS = ("plain sendfile", "plain sendfile of the small files")

Speed = Callable[[], Coroutine[Any, Any, float]]


def run(talk: Callable[[str], None], *, quick: bool) -> Outcome:
    """Samples in turn: the limit, ranges one at a time, ranges and batches two at a time."""
    size, count = (64 * MIB, 480) if quick else (1024 * MIB, 9600)
    with limited_source() as source:
        source.limited = False
        source.put(BUCKET, "large.tar", os.urandom(RANGE) * (size // RANGE))
        for number in range(count):
            source.put(BUCKET, f"small/{number:05}.jpg", os.urandom(SMALL))
        with worker_pool(source, 1) as pool:
            return asyncio.run(_measured(pool, QUICK_PAIRS if quick else PAIRS, talk))


async def _measured(pool: WorkerPool, pairs: int, talk: Callable[[str], None]) -> Outcome:
    peer = _Peer(pool)
    large = peer.request("large.tar")
    small = [peer.request(name) for name in peer.names("small")]
    try:
        await peer.read_ranges(large, 2)  # fetched from the source now, cached from here on
        await peer.read_batches(small, 2)
        file, folder = pool.directory / "plain", pool.directory / "files"
        folder.mkdir()
        _fill(file.open("wb"), large.size)
        for each in small:
            (folder / each.path.rpartition("/")[2]).write_bytes(os.urandom(SMALL))
        with _plain_server(str(file)) as port, _plain_server(str(folder)) as files_port:
            ways: dict[str, Speed] = {
                FILE: lambda: _plain(port, large.size),
                FILES: lambda: _plain(files_port, len(small) * SMALL),
                "ranges": lambda: peer.read_ranges(large, 1),
                "ranges, two at a time": lambda: peer.read_ranges(large, 2),
                "batches": lambda: peer.read_batches(small, 1),
                "batches, two at a time": lambda: peer.read_batches(small, 2),
                "objects one by one": lambda: peer.read_one_by_one(small),
            }
            samples = await _in_turn(ways, pairs, talk)
            costs = {name: await peer.cost(way) for name, way in ways.items() if name not in LIMITS}
    finally:
        peer.client.close()
    return Outcome(_compared(samples), facts={"transport_cpu_seconds_per_gib": costs})


def _compared(samples: dict[str, list[float]]) -> list[Comparison]:
    limits, same = (samples.pop(name) for name in LIMITS)
    asked = {"ranges", "batches, two at a time"}
    found = [
        compare(name, "MiB/s", limits, ours, at_least=AT_LEAST if name in asked else None)
        for name, ours in samples.items()
    ]
    batches = "batches, two at a time"
    beside = compare(f"{batches}, beside the same files", "MiB/s", same, samples[batches])
    return [*found, beside]


async def _in_turn(
    ways: dict[str, Speed], pairs: int, talk: Callable[[str], None]
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(pairs + 1):
        for name, way in ways.items():
            samples[name].append(await way())
        if number:
            latest = ", ".join(f"{name} {each[-1]:,.0f}" for name, each in samples.items())
            talk(f"{number}/{pairs}: {latest} MiB/s")
    return {name: each[1:] for name, each in samples.items()}


class _Peer:
    """The worker as another worker sees it."""

    def __init__(self, pool: WorkerPool) -> None:
        self.worker: PoolWorker = next(iter(pool.workers.values()))
        membership = read_membership(pool.file)
        self.member: Member = membership.members[0]
        self.client = PeerClient()
        self.client.use(membership)
        self.digest = self.worker.definition.bytes_digest()

    def names(self, folder: str) -> list[str]:
        return [
            f"{folder}/{os.fsdecode(each.name)}" for each in self.worker.session.listdir(folder)
        ]

    def request(self, path: str) -> PeerRequest:
        entry = self.worker.session.entry(path)
        return PeerRequest(KEY, self.digest, "m", path, entry.version, entry.size, 0, entry.size)

    async def read_ranges(self, whole: PeerRequest, lanes: int) -> float:
        """MiB/s of all bytes, so many ranges at a time, each lane into one buffer."""

        async def lane(first: int) -> None:
            buffer = memoryview(bytearray(RANGE))
            for start in range(first * RANGE, whole.size, lanes * RANGE):
                part = whole._replace(start=start, end=start + RANGE)
                await self.client.read_into(self.member, part, buffer, seconds=SECONDS)

        begin = time.perf_counter()
        await asyncio.gather(*(lane(number) for number in range(lanes)))
        return whole.size / (time.perf_counter() - begin) / MIB

    async def read_batches(self, objects: list[PeerRequest], lanes: int) -> float:
        """MiB/s of all objects, as many a batch as one may have."""
        step = MOST_BATCH_BYTES // SMALL
        taken = 0

        def take(_: int, data: memoryview) -> None:
            nonlocal taken
            taken += len(data)

        async def lane(first: int) -> None:
            for at in range(first * step, len(objects), lanes * step):
                batch = objects[at : at + step]
                errors = await self.client.read_batch(self.member, batch, take, seconds=SECONDS)
                if any(errors):
                    raise RuntimeError(f"an object failed: {next(filter(None, errors))}")

        begin = time.perf_counter()
        await asyncio.gather(*(lane(number) for number in range(lanes)))
        return taken / (time.perf_counter() - begin) / MIB

    async def read_one_by_one(self, objects: list[PeerRequest]) -> float:
        """MiB/s of a part of the objects, asked for by one request each."""
        some = objects[: len(objects) // 5]
        begin = time.perf_counter()
        for each in some:
            await self.client.get(self.member, each, seconds=SECONDS)
        return len(some) * SMALL / (time.perf_counter() - begin) / MIB

    async def cost(self, way: Speed) -> float:
        """Processor seconds a GiB, both processes together."""
        before, begin = self._cpu_seconds(), time.perf_counter()
        speed = await way()
        gibibytes = speed * (time.perf_counter() - begin) / 1024
        return round((self._cpu_seconds() - before) / gibibytes, 3)

    def _cpu_seconds(self) -> float:
        with open(f"/proc/{self.worker.pid}/stat", encoding="ascii") as stream:
            values = stream.read().rpartition(")")[2].split()
        own = resource.getrusage(resource.RUSAGE_SELF)
        ticks = int(values[11]) + int(values[12])
        return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _fill(stream: Any, size: int) -> None:
    with stream:
        block = os.urandom(RANGE)
        for _ in range(size // RANGE):
            stream.write(block)


@contextmanager
def _plain_server(path: str) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.cluster.plain_sendfile", path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


async def _plain(port: int, size: int) -> float:
    """MiB/s of plain receiving into one buffer."""
    buffer = memoryview(bytearray(RANGE))
    begin, received = time.perf_counter(), 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while received < size:
            count = sock.recv_into(buffer[received % RANGE :])
            if not count:
                raise RuntimeError("the plain server ended early")
            received += count
    return size / (time.perf_counter() - begin) / MIB
