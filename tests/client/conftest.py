from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.connection import close_connections
from fluidpy.client.session import DatasetSession
from fluidpy.settings import Settings
from tests.client.fake_worker import FakeWorker


@dataclass(frozen=True)
class NamedDefinition:
    """As much of a DatasetDefinition as a session needs."""

    key: str = "default/demo"

    def to_wire(self) -> dict[str, Any]:
        return {"key": self.key}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as directory:
        runtime = Path(directory)
        yield Settings(
            cache_dir=tmp_path / "cache",
            runtime_dir=runtime,
            source_deadline_seconds=60,
            worker_start_seconds=60,
        )
        close_connections()


@pytest.fixture
def fake(settings: Settings, tmp_path: Path) -> Iterator[FakeWorker]:
    worker = FakeWorker(settings, tmp_path)
    worker.start()
    yield worker
    close_connections()
    worker.stop()


@pytest.fixture
def session(fake: FakeWorker) -> DatasetSession:
    return DatasetSession(NamedDefinition(), fake.settings)
