"""The source of these tests, and a worker on the network for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fluidpy.testing.servers.object_server import ObjectServer, object_server
from tests.cluster_network.bed import Bed, bed_of


@pytest.fixture(scope="session")
def memory_server() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture
async def bed(memory_server: ObjectServer, tmp_path: Path) -> AsyncIterator[Bed]:
    async with bed_of(memory_server, tmp_path) as bed:
        yield bed
