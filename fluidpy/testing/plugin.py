"""Fixtures for pytest: a real S3 server, one a test session, and a bucket for each test.

Activate with `pytest_plugins = ["fluidpy.testing.plugin"]` in the top `conftest.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from fluidpy.testing.servers.seaweedfs import SeaweedServer, seaweedfs

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """One SeaweedFS for the whole session."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def bucket(seaweedfs_server: SeaweedServer) -> str:
    """The name of an empty bucket on `seaweedfs_server` that no other test uses."""
    name = f"test-bucket-{next(_numbers)}"
    seaweedfs_server.make_bucket(name)
    return name
