"""The conformance suite on every driver, opened as a mount opens it."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import fsspec
import pytest
from aiohttp import web
from fsspec.implementations.memory import MemoryFileSystem

from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource, UnderStorage
from fluidpy.testing.servers.http_thread import serve
from fluidpy.testing.servers.oss import OssServer
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from fluidpy.testing.storage_suite import TREE, Seed, StorageSuite


def put(server: SeaweedServer, bucket: str, files: Mapping[str, bytes]) -> None:
    store = server.store(bucket)
    for key, data in files.items():
        store.put(key, data)


def write(root: Path, files: Mapping[str, bytes], age_seconds: float = 10) -> None:
    """Writes files by rename, changed `age_seconds` ago as far as a user can say so."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{uuid.uuid4().hex}")
        fresh.write_bytes(data)
        then = time.time() - age_seconds
        os.utime(fresh, (then, then))
        fresh.replace(path)


class TestS3(StorageSuite):
    empty_prefix_is_a_folder = True

    @pytest.fixture
    async def storage(
        self, seaweedfs_server: SeaweedServer, bucket: str, settings: Settings
    ) -> AsyncIterator[UnderStorage]:
        storage = open_storage(seaweedfs_server.source(bucket), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, seaweedfs_server: SeaweedServer, bucket: str) -> Seed:
        return lambda files: put(seaweedfs_server, bucket, files)


class TestS3Prefix(TestS3):
    @pytest.fixture
    async def storage(
        self, seaweedfs_server: SeaweedServer, bucket: str, settings: Settings
    ) -> AsyncIterator[UnderStorage]:
        storage = open_storage(seaweedfs_server.source(bucket, "a/pre fix"), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, seaweedfs_server: SeaweedServer, bucket: str) -> Seed:
        return lambda files: put(
            seaweedfs_server, bucket, {f"a/pre fix/{key}": data for key, data in files.items()}
        )


class TestS3ThroughS3fs(StorageSuite):
    # What s3fs does with this name is its own affair.
    tree: ClassVar[Mapping[str, bytes]] = {k: v for k, v in TREE.items() if "?" not in k}

    @pytest.fixture
    async def storage(
        self, seaweedfs_server: SeaweedServer, bucket: str, settings: Settings
    ) -> AsyncIterator[UnderStorage]:
        storage = open_storage(seaweedfs_server.source(bucket, client="fsspec"), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, seaweedfs_server: SeaweedServer, bucket: str) -> Seed:
        return lambda files: put(seaweedfs_server, bucket, files)


class TestOss(StorageSuite):
    empty_prefix_is_a_folder = True

    @pytest.fixture
    async def storage(self, oss: OssServer, settings: Settings) -> AsyncIterator[UnderStorage]:
        storage = open_storage(oss_source(oss), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, oss: OssServer) -> Seed:
        return lambda files: oss.put_all("images", files)


class TestOssThroughOssfs(StorageSuite):
    empty_prefix_is_a_folder = True
    # The store tells times by the second, and a file so new has no version yet.
    versions = False

    @pytest.fixture
    async def storage(self, oss: OssServer, settings: Settings) -> AsyncIterator[UnderStorage]:
        storage = open_storage(oss_source(oss, client="fsspec"), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, oss: OssServer) -> Seed:
        return lambda files: oss.put_all("images", files)


def oss_source(oss: OssServer, secret: str = "", **options: str) -> MountSource:
    return MountSource(
        "oss://images",
        "images",
        {"fs.oss.endpoint": oss.endpoint, "path_style": "true", **options},
        {
            "fs.oss.accessKeyId": oss.access_key,
            "fs.oss.accessKeySecret": secret or oss.secret_key,
        },
    )


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local files count as settled at once, so that tests need not wait 2 s."""
    monkeypatch.setattr("fluidpy.storage.local_files.SETTLED_NS", 0)


class TestLocal(StorageSuite):
    @pytest.fixture
    async def storage(
        self, tmp_path: Path, settings: Settings, settled: None
    ) -> AsyncIterator[UnderStorage]:
        storage = open_storage(MountSource(str(tmp_path / "nas"), "nas"), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, tmp_path: Path) -> Seed:
        return lambda files: write(tmp_path / "nas", files)


class TestPvc(TestLocal):
    @pytest.fixture
    async def storage(
        self, tmp_path: Path, settings: Settings, settled: None
    ) -> AsyncIterator[UnderStorage]:
        claims = Settings(
            cache_dir=settings.cache_dir,
            runtime_dir=settings.runtime_dir,
            pvc_directories={"claim": str(tmp_path)},
        )
        storage = open_storage(MountSource("pvc://claim/nas", "claim"), claims)
        yield storage
        await storage.close()


class TestFsspecFiles(StorageSuite):
    """A blocking file system that tells times."""

    @pytest.fixture
    async def storage(self, tmp_path: Path, settings: Settings) -> AsyncIterator[UnderStorage]:
        source = MountSource(f"file://{tmp_path}/nas", "nas", {"client": "fsspec"})
        storage = open_storage(source, settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self, tmp_path: Path) -> Seed:
        ages = iter(range(100, 0, -10))
        return lambda files: write(tmp_path / "nas", files, next(ages))


class TestFsspecMemory(StorageSuite):
    """A blocking file system with nothing but `modified`."""

    @pytest.fixture
    async def storage(self, settings: Settings) -> AsyncIterator[UnderStorage]:
        storage = open_storage(MountSource("memory://suite", "memory"), settings)
        yield storage
        await storage.close()

    @pytest.fixture
    def seed(self) -> Iterator[Seed]:
        memory: MemoryFileSystem = fsspec.filesystem("memory")

        def put_all(files: Mapping[str, bytes]) -> None:
            for key, data in files.items():
                memory.pipe_file(f"/suite/{key}", data)

        yield put_all
        memory.rm("/suite", recursive=True)


class TestHttp(StorageSuite):
    """Indexes as nginx writes them, by a server that knows ranges and conditions."""

    @pytest.fixture
    def seed(self, tmp_path: Path) -> Seed:
        ages = iter(range(100, 0, -10))
        return lambda files: write(tmp_path / "web", files, next(ages))

    @pytest.fixture
    async def storage(self, tmp_path: Path, settings: Settings) -> AsyncIterator[UnderStorage]:
        with serve(WebFolder(tmp_path / "web").handle) as server:
            storage = open_storage(MountSource(f"{server.endpoint}/", "web"), settings)
            yield storage
            await storage.close()


class WebFolder:
    """Files of a directory with an index for each folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = self.root / request.url.path.lstrip("/")
        if path.is_dir() and not request.url.path.endswith("/"):
            return web.Response(status=301, headers={"Location": f"{request.raw_path}/"})
        if path.is_dir():
            return web.Response(text=self.index(path), content_type="text/html")
        if not path.is_file():
            return web.Response(status=404)
        return await asyncio.to_thread(web.FileResponse, path)

    def index(self, folder: Path) -> str:
        rows = [
            f'<a href="{quote(child.name)}{"/" * child.is_dir()}">{child.name[:10]}..&gt;</a> 1.0K'
            for child in folder.iterdir()
        ]
        above = '<a href="../">../</a><a href="?C=N;O=D">Name</a><a href="https://else/x">x</a>'
        return f"<html><h1>Index</h1><pre>{above}{''.join(rows)}</pre></html>"
