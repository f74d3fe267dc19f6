"""A source, a mount and a real worker: what tests that read in each mode begin with."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fluidpy.cache.tier import TierDefinition
from fluidpy.client.connection import WorkerConnection
from fluidpy.fuse.mount_record import MountRecord
from fluidpy.fuse.mounting import list_mounts, mount_dataset
from fluidpy.fuse.read_modes import ReadMode
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource
from tests.fuse.passed_through import is_passed_through

MODES = [
    mode
    for mode in ReadMode
    if os.geteuid() == 0 or mode is not ReadMode.PASSTHROUGH  # which takes CAP_SYS_ADMIN
]
MIB = 1024 * 1024
LARGE = 6 * MIB + 4097
OLD = time.time() - 3600
"""Files written longer ago than the few seconds in which a change might go unnoticed."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="passthrough takes CAP_SYS_ADMIN")


def write(path: Path, content: bytes, age: float = 0.0) -> None:
    path.write_bytes(content)
    os.utime(path, (OLD - age, OLD - age))


class Bed:
    """A source, a place to mount at, and the cache's worker."""

    def __init__(self, directory: Path, settings: Settings, mount_point: Path) -> None:
        self.settings = settings
        self.mount_point = mount_point
        self.source = directory / "source"
        (self.source / "small").mkdir(parents=True)
        for number in range(12):
            write(self.source / f"small/{number}", os.urandom(30_000 + number))
        write(self.source / "large", os.urandom(LARGE))
        write(self.source / "empty", b"")
        self.tier, self.quota_bytes = directory / "tier", 1 << 30
        self.records: list[MountRecord] = []

    def mount(self, read_mode: str, ttl: float = 300.0) -> MountRecord:
        source = MountSource(f"local://{self.source}", label="nas")
        definition = DatasetDefinition(
            name="nas",
            namespace="default",
            mounts=(MountDefinition("nas", "/", source),),
            tiers=(TierDefinition(str(self.tier), self.quota_bytes),),
            metadata_ttl_seconds=ttl,
        )
        record = mount_dataset(
            definition,
            self.mount_point,
            self.settings,
            foreground=False,
            file=None,
            deadline=40,
            read_mode=read_mode,
        )
        self.records.append(record)
        return record

    def record(self) -> MountRecord:
        return list_mounts(self.settings)[0]

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        connection = WorkerConnection(self.settings)
        try:
            dataset, _ = connection.call("attach", deadline=60, name="default/nas")
            ok, _ = connection.call(operation, deadline=60, dataset=dataset["dataset"], **fields)
            return ok
        finally:
            connection.close()

    def bytes_of_cache(self) -> int:
        """Blocks on the disk, of files that have names."""
        return sum(path.stat().st_blocks * 512 for path in self.tier.rglob("objects/*/*"))

    def same(self, name: str) -> bool:
        return (self.mount_point / name).read_bytes() == (self.source / name).read_bytes()

    def is_passed_through(self, name: str) -> bool:
        """Whether the kernel reads an open file itself: with the server stopped and the mount's
        own pages dropped.
        """
        content = (self.source / name).read_bytes()
        return is_passed_through(self.mount_point / name, content, self.record().server_pid)


def held_by_server(bed: Bed) -> list[str]:
    """Cache files that the server has open; those that have left end with `(deleted)`."""
    fds = Path(f"/proc/{bed.record().server_pid}/fd")
    links = []
    for fd in fds.iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(fd))
    return [link for link in links if "/objects/" in link]
