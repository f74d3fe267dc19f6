"""Pools of real workers; what a test started ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.testing.servers.object_server import object_server
from tests.cluster_reading.bed import CountingServer, Pool

MakePool = Callable[..., Pool]


@pytest.fixture(scope="session")
def counting_server() -> Iterator[CountingServer]:
    server = CountingServer()
    with object_server(server):
        yield server


@pytest.fixture
def make_pool(
    counting_server: CountingServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakePool]:
    """Starts workers that know each other; their names are `a`, `b`, …."""
    made: list[Pool] = []

    def new_runtime() -> Path:
        runtime = tmp_path_factory.mktemp("r")
        runtime.chmod(0o700)
        return runtime

    def make(files: dict[str, bytes], workers: str = "abcd", **options: Any) -> Pool:
        pool = Pool(counting_server, tmp_path, new_runtime, files, **options)
        made.append(pool)
        pool.add(*workers)
        pool.publish()
        counting_server.bytes.clear()
        counting_server.gets.clear()
        return pool

    yield make
    for pool in made:
        pool.close()
