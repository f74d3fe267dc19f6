"""Workers of the control plane speak TLS when they are to, and with nobody of another pool."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.connection import WorkerConnection
from fluidpy.client.locate import Locator
from fluidpy.client.session import DatasetSession
from fluidpy.cluster.certificates import MEMBER_DAYS, ensure_authority, issue
from fluidpy.cluster.membership import Membership, read_membership
from fluidpy.control.pool_certificates import PoolCertificates, needs_tls
from fluidpy.control.worker_pool import WorkerPool
from fluidpy.errors import ClusterError, ControlPlaneError
from fluidpy.settings import Settings
from tests.control.conftest import LocalControlPlane, dataset, local_control_plane
from tests.control.test_life_of_a_dataset import await_true, phase, ready_workers

FILES = 48
"""So many that both workers own some, whatever their ports: else 1 in 2^47."""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path, pool_tls=True) as control:
        yield control


def test_a_pool_with_tls_serves_and_refuses_strangers(
    control: LocalControlPlane, tmp_path: Path
) -> None:
    source = tmp_path / "nas"
    source.mkdir()
    for number in range(FILES):
        (source / f"{number}.bin").write_bytes(bytes([number]) * 70_000)
    control.client.create("datasets", "default", dataset("pets", f"local://{source}"))
    await_true(lambda: phase(control) == "Bound")
    control.client.scale("datasets", "default", "pets", 2)
    workers = await_true(lambda: (w := ready_workers(control)) and len(w) == 2 and w)

    def from_owner() -> int:
        _read_all(control, source)
        return sum(_status(control, row)["counters"]["bytes_from_owner"] for row in workers)

    await_true(from_owner)  # what has just been written is kept by none, and asked of none

    made = control.settings.state_dir / "pool" / "certificates"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in made.iterdir()} == {0o600}

    address = workers[0]["address"]
    own = _context(made / "authority.pem", made / "worker-1.pem")
    assert _ask(address, own).startswith(b"HTTP/1.1 200")
    other = ensure_authority(tmp_path / "other")
    issue(other, tmp_path / "other.pem", "worker-1", ["127.0.0.1"])
    for stranger in (
        None,
        _context(made / "authority.pem", None),
        _context(made / "authority.pem", tmp_path / "other.pem"),
    ):
        assert not _answer(address, stranger)
    with pytest.raises(ssl.SSLCertVerificationError):
        _ask(address, _context(other.certificate, made / "worker-1.pem"))


@pytest.mark.slow
def test_workers_start_again_when_tls_is_turned_on(tmp_path: Path) -> None:
    source = tmp_path / "nas"
    source.mkdir()
    (source / "cat").write_bytes(b"meow")
    with local_control_plane(tmp_path) as control:
        control.client.create("datasets", "default", dataset("pets", f"local://{source}"))
        before = await_true(lambda: ready_workers(control))[0]
        control.kill()
        control.settings = replace(control.settings, pool_tls=True)
        control.up()
        after = await_true(
            lambda: [w for w in ready_workers(control) if w["pid"] != before["pid"]]
        )[0]
        assert after["address"] == before["address"]
        membership = _membership(control)
        assert membership.tls
        assert membership.ca_file is not None
        own = _context(membership.ca_file, membership.ca_file.parent / "worker-0.pem")
        assert _ask(after["address"], own).startswith(b"HTTP/1.1 200")
        _read_all(control, source)


def test_an_address_of_another_machine_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(ControlPlaneError, match=r"192\.0\.2\.1: it is no address of this machine"):
        WorkerPool(replace(settings, pool_host="192.0.2.1"), lambda: None)


def test_certificates_that_cannot_be_made_are_told_at_once(settings: Settings) -> None:
    (settings.state_dir / "pool").mkdir(parents=True)
    (settings.state_dir / "pool" / "certificates").write_text("not a folder")
    with pytest.raises(ClusterError, match="certificates cannot be made"):
        WorkerPool(replace(settings, pool_tls=True), lambda: None)


def test_certificates_are_renewed_before_they_end(settings: Settings) -> None:
    certificates = PoolCertificates(settings)
    authority = ensure_authority(certificates.directory)
    path = certificates.of("worker-0")
    long_ago = datetime.now(UTC) - timedelta(days=MEMBER_DAYS * 3 / 4)
    assert issue(authority, path, "worker-0", ["127.0.0.1"], now=long_ago)
    before = path.read_bytes()
    member = _membership_of_one().members
    certificates.keep(member)
    renewed = path.read_bytes()
    assert renewed != before
    certificates.keep(member)
    assert path.read_bytes() == renewed


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, False),
        ({"pool_host": "localhost"}, False),
        ({"pool_tls": True}, True),
        ({"pool_host": "10.0.0.7"}, True),
        ({"pool_host": "fd00::7"}, True),
        ({"pool_host": "10.0.0.7", "plain_network": True}, False),
        ({"pool_host": "10.0.0.7", "plain_network": True, "pool_tls": True}, True),
    ],
)
def test_tls_is_the_default_beyond_loopback(
    settings: Settings, changed: dict[str, Any], expected: bool
) -> None:
    assert needs_tls(replace(settings, **changed)) == expected


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        cache_dir=tmp_path / "cache", runtime_dir=tmp_path / "run", state_dir=tmp_path / "state"
    )


def _membership_of_one() -> Membership:
    wire = {"name": "worker-0", "address": "127.0.0.1:1", "machine": "m", "capacityBytes": 1}
    return Membership.from_wire({"generation": 1, "members": [wire], "datasets": {}})


def _membership(control: LocalControlPlane) -> Membership:
    return read_membership(control.settings.state_dir / "pool" / "membership.json")


def _read_all(control: LocalControlPlane, source: Path) -> None:
    found = Locator(control.settings, environ={}).find("pets")
    session = DatasetSession(found, control.settings)
    with closing(session), closing(session.connection):
        for name in os.listdir(source):
            assert session.read(name) == (source / name).read_bytes()


def _status(control: LocalControlPlane, row: dict[str, Any]) -> dict[str, Any]:
    place = replace(control.settings, runtime_dir=Path(row["runtimeDir"]))
    with closing(WorkerConnection(place)) as connection:
        return connection.call("status", deadline=60.0)[0]


def _context(authority: Path, certificate: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def _answer(address: str, context: ssl.SSLContext | None) -> bytes:
    """As `_ask`; nothing when the worker ends the connection, in whatever way."""
    try:
        return _ask(address, context)
    except (ssl.SSLError, ConnectionError):
        return b""


def _ask(address: str, context: ssl.SSLContext | None) -> bytes:
    """The first bytes of the answer to a question that needs no token."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as plain:
        sock = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        with sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: pool\r\n\r\n")
            return sock.recv(1000)
