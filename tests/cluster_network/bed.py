"""A worker's own tables behind a peer server, over an S3 server in memory, and a client for it."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fluidpy.cluster.membership import DatasetMembership, Member, Membership
from fluidpy.cluster.peer_client import PeerClient
from fluidpy.cluster.peer_protocol import PeerRequest
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.object_server import ObjectServer
from fluidpy.worker.attached_dataset import AttachedDataset
from fluidpy.worker.datasets import Datasets
from fluidpy.worker.fills import FillTable
from fluidpy.worker.lent_storage import LentStorage, StorageLender
from fluidpy.worker.parts import MountLimits
from fluidpy.worker.peer_objects import PeerObjects
from fluidpy.worker.peer_server import PeerServer
from fluidpy.worker.stores import Stores

BLOCK = 65536
TOKEN = "a-token-of-the-data-set"
SECRET = "a-secret-key-of-the-source"
KEY = "default/data"
_numbers = itertools.count(1)


def membership(address: str, token: str = TOKEN) -> Membership:
    member = Member("worker-0", address, "machine", 1 << 30)
    return Membership(1, (member,), {KEY: DatasetMembership(("worker-0",), token=token)})


class Bed:
    """One worker that serves one Dataset to peers, and one client."""

    def __init__(self, server: ObjectServer, directory: Path) -> None:
        self.source = server
        self.bucket = f"peer-bucket-{next(_numbers)}"
        server.buckets[self.bucket] = {}
        self.settings = Settings(
            cache_dir=directory / "cache", runtime_dir=directory / "run", block_bytes=BLOCK
        )
        self.stores = Stores(self.settings)
        self.lender = StorageLender(open_storage)
        self.datasets = Datasets(self.settings, self.stores, self.lender.lend)
        self.fills = FillTable(block_bytes=BLOCK, part_bytes=1 << 20, limits_of=_limits)
        self.objects = PeerObjects(self.datasets, self.fills)
        self.server = PeerServer(self.objects)
        self.client = PeerClient(threads=4)
        self.dataset: AttachedDataset

    def definition(self) -> DatasetDefinition:
        options = {"endpoint": self.source.endpoint, "region": "us-east-1", "path_style": "true"}
        options |= {"allow_http": "true"}
        secrets = {"access_key_id": "an-id", "secret_access_key": SECRET}
        source = MountSource(f"s3://{self.bucket}", "m", options, secrets)
        return DatasetDefinition(
            "data", "default", (MountDefinition("m", "/", source),), metadata_ttl_seconds=0.0
        )

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        address = await self.server.start("127.0.0.1:0", tls=tls)
        self.server.use(membership(address))
        self.client.use(membership(address))

    @property
    def member(self) -> Member:
        return self.at(self.server.address)

    def at(self, address: str) -> Member:
        return Member("worker-0", address, "machine", 1 << 30)

    async def put(self, path: str, data: bytes) -> PeerRequest:
        """Puts an object at the source; the request for all of it."""
        self.source.put(self.bucket, path, data)
        if not hasattr(self, "dataset"):
            self.dataset = await self.datasets.attach(self.definition(), self)
        entry = await self.dataset.resolve(path)
        return PeerRequest(
            KEY, self.dataset.bytes_digest, "m", path, entry.version, len(data), 0, len(data)
        )

    async def read(self, request: PeerRequest, member: Member | None = None, **how: Any) -> bytes:
        data = bytearray(request.end - request.start)
        how.setdefault("seconds", 60.0)
        await self.client.read_into(member or self.member, request, memoryview(data), **how)
        return bytes(data)

    async def close(self) -> None:
        self.client.close()
        await self.server.close()
        await self.fills.close(1.0)
        await self.datasets.close()
        await self.lender.close_returned()
        self.stores.close()


def _limits(located: Any) -> MountLimits:
    assert isinstance(located.storage, LentStorage)
    return located.storage.limits


@contextlib.asynccontextmanager
async def bed_of(
    server: ObjectServer, directory: Path, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Bed]:
    bed = Bed(server, directory)
    await bed.start(tls)
    try:
        yield bed
    finally:
        await bed.close()
