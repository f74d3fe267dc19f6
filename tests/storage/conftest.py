from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.settings import Settings
from fluidpy.testing.servers.fault_proxy import FaultProxy, fault_proxy
from fluidpy.testing.servers.object_server import ObjectServer, object_server
from fluidpy.testing.servers.oss import OssServer, oss_server
from fluidpy.testing.servers.seaweedfs import SeaweedServer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        cache_dir=tmp_path / "cache", runtime_dir=tmp_path / "run", source_deadline_seconds=60.0
    )


@pytest.fixture
def hasty(settings: Settings) -> Settings:
    """Settings under which a source that hangs is given up soon."""
    return dataclasses.replace(settings, source_deadline_seconds=1.0)


@pytest.fixture(scope="session")
def _proxy(seaweedfs_server: SeaweedServer) -> Iterator[FaultProxy]:
    with fault_proxy(seaweedfs_server.endpoint) as running:
        yield running


@pytest.fixture
def proxy(_proxy: FaultProxy) -> FaultProxy:
    _proxy.clear()
    return _proxy


@pytest.fixture
def keys() -> Iterator[ObjectServer]:
    """An S3 server that holds any key."""
    with object_server() as server:
        yield server


@pytest.fixture
def oss() -> Iterator[OssServer]:
    with oss_server() as server:
        yield server
