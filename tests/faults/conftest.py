from __future__ import annotations

from collections.abc import Iterator

import pytest

from fluidpy.testing.servers.fault_proxy import FaultProxy, fault_proxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer


@pytest.fixture(scope="session")
def running_proxy(seaweedfs_server: SeaweedServer) -> Iterator[FaultProxy]:
    with fault_proxy(seaweedfs_server.endpoint) as running:
        yield running


@pytest.fixture
def proxy(running_proxy: FaultProxy) -> FaultProxy:
    running_proxy.clear()
    return running_proxy
