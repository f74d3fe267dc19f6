"""All readers of a machine at once, by the mount and by URL: each byte leaves the source once."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.connection import close_connections
from fluidpy.filesystem import FluidFileSystem
from fluidpy.testing.servers.fault_proxy import FaultProxy, fault_proxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.test_bad_sources import bucket_dataset
from tests.cli.conftest import CommandLine, command_line, needs_fuse

__all__ = ["command_line"]

pytestmark = needs_fuse

MIB = 1 << 20
SECONDS = 100.0
LARGE = "large"


@dataclass(frozen=True)
class Mounted:
    """A Dataset `pets` over a bucket behind a proxy, mounted, of which nothing was read yet."""

    line: CommandLine
    directory: Path
    proxy: FaultProxy
    prefix: str
    files: dict[str, bytes]
    options: dict[str, Any]

    def counters(self) -> dict[str, int]:
        worker = json.loads(self.line.done("status", "-o", "json"))["worker"]
        return dict(worker["counters"])

    def fetched(self) -> Counter[tuple[str, int]]:
        """How often each byte was asked of the source, by its file and place."""
        times: Counter[tuple[str, int]] = Counter()
        for asked in list(self.proxy.requests):
            path = asked.path.removeprefix(self.prefix)
            if asked.method != "GET" or path not in self.files:
                continue
            start, end = 0, len(self.files[path])
            if asked.range:
                first, _, last = asked.range.removeprefix("bytes=").partition("-")
                start, end = int(first), min(end, int(last) + 1)
            times.update((path, place) for place in range(start, end, 1024))
        return times


@pytest.fixture
def mounted(
    command_line: CommandLine, seaweedfs_server: SeaweedServer, bucket: str, tmp_path: Path
) -> Iterator[Mounted]:
    chance = random.Random(11)
    files = {f"small/{number}": chance.randbytes(60_000 + number) for number in range(8)}
    files[LARGE] = chance.randbytes(24 * MIB + 77)
    seaweedfs_server.put_objects(bucket, files)
    directory, file = tmp_path / "data", tmp_path / "pets.yaml"
    directory.mkdir()
    with fault_proxy(seaweedfs_server.endpoint) as proxy:
        text = bucket_dataset(seaweedfs_server, f"s3://{bucket}")
        file.write_text(text.replace(seaweedfs_server.endpoint, proxy.endpoint))
        command_line.done("mount", "-f", file, directory)
        environment = command_line.environment
        options = {
            "file": str(file),
            "cache_dir": environment["FLUIDPY_CACHE_DIR"],
            "runtime_dir": environment["FLUIDPY_RUNTIME_DIR"],
        }
        try:
            yield Mounted(command_line, directory, proxy, f"/{bucket}/", files, options)
        finally:
            close_connections()
            FluidFileSystem.clear_instance_cache()
            command_line.run("umount", "--lazy", directory)
            command_line.run("worker", "--stop")


def digest_of_all(read: Callable[[str], bytes], paths: list[str], ready: Barrier) -> str:
    """One digest of some files, read in that order once all readers are ready."""
    ready.wait(SECONDS)
    digests = {path: hashlib.sha256(read(path)).hexdigest() for path in paths}
    return " ".join(digests[path] for path in sorted(paths))


def read_by_url(options: dict[str, Any]) -> Callable[[str], bytes]:
    fs = FluidFileSystem(**options)

    def read(path: str) -> bytes:
        with fs.open(f"pets/{path}") as file:
            pieces = []
            while piece := file.read(300_000):
                pieces.append(piece)
        return b"".join(pieces)

    return read


def child(options: dict[str, Any], paths: list[str], ready: Barrier, answer: Any) -> None:
    answer.send(digest_of_all(read_by_url(options), paths, ready))


def test_a_byte_is_fetched_once_for_the_mount_and_all_processes(mounted: Mounted) -> None:
    paths = [*mounted.files]
    spawn: Any = multiprocessing.get_context("spawn")
    fork: Any = multiprocessing.get_context("fork")
    ready = spawn.Barrier(5)
    children, answers = [], []
    mounted.proxy.latency_seconds = 0.05  # so that readers meet while bytes are under way
    for number, context in enumerate((spawn, fork, fork)):
        mine, theirs = context.Pipe(duplex=False)
        order = paths[number:] + paths[:number]
        started = context.Process(target=child, args=(mounted.options, order, ready, theirs))
        started.start()
        theirs.close()
        children.append(started)
        answers.append(mine)
    by_url = read_by_url(mounted.options)

    def by_mount(path: str) -> bytes:
        return (mounted.directory / path).read_bytes()

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(digest_of_all, read, paths, ready) for read in (by_mount, by_url)]
        digests = [one.result(SECONDS) for one in found]
    for started, answer in zip(children, answers, strict=True):
        assert answer.poll(SECONDS)
        digests.append(answer.recv())
        started.join(SECONDS)
        assert started.exitcode == 0
        answer.close()
    right = digest_of_all(mounted.files.__getitem__, paths, fork.Barrier(1))
    assert digests == [right] * 5
    size = sum(map(len, mounted.files.values()))
    assert set(mounted.fetched().values()) == {1}
    counters = mounted.counters()
    assert counters["bytes_from_source"] == size
    assert counters["bytes_not_kept"] == 0
    before = len(mounted.proxy.requests)
    assert digest_of_all(by_mount, paths, fork.Barrier(1)) == right
    assert digest_of_all(by_url, paths, fork.Barrier(1)) == right
    assert len(mounted.proxy.requests) == before
