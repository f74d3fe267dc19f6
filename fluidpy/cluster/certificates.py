"""Certificates for the workers of a pool: an authority of the pool's own, and what it signs.

Made by whoever starts the workers, with the library `cryptography` (extra `cluster`); workers
themselves only read the files. All files are for their owner alone (0600), written whole or not at
all. Certificates are short-lived and issued anew long before they end (`issue` says when), so there
is no list of revoked ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fluidpy.cluster.private_files import replace_privately
from fluidpy.errors import ClusterError

AUTHORITY_DAYS: Final = 3650
"""How long an authority is valid: a new one makes all workers' certificates void at once."""

MEMBER_DAYS: Final = 90
"""How long a worker's certificate is valid; issued anew when less than a third of that is left."""

_BACKDATED: Final = timedelta(hours=1)
"""For machines whose clocks are behind."""


class Authority(NamedTuple):
    """The pool's authority: the PEM file that workers read, and the key that never leaves us."""

    certificate: Path
    key: Path


def ensure_authority(directory: Path, *, now: datetime | None = None) -> Authority:
    """The authority kept in `directory`, made when there is none or when it has ended.

    Raises ClusterError when its files cannot be read or written.
    """
    authority = Authority(directory / "authority.pem", directory / "authority.key")
    at = now or datetime.now(UTC)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_valid(authority, at):
            _make_authority(authority, at)
    except OSError as error:
        raise _failure(directory, error) from error
    return authority


def issue(
    authority: Authority,
    path: Path,
    name: str,
    hosts: Sequence[str],
    *,
    now: datetime | None = None,
) -> bool:
    """Sees that `path` holds a certificate and key of the worker `name`; True when it made one.

    `hosts` are the names and IP addresses by which others reach the worker. One that is there stays
    if it is by this authority, for these hosts, and valid for a third of MEMBER_DAYS at least.
    Raises ClusterError when a file cannot be read or written.
    """
    at = now or datetime.now(UTC)
    try:
        signer = _read_certificate(authority.certificate)
        if signer is None:
            raise FileNotFoundError(f"no certificate in {authority.certificate}")
        if _still_fits(path, signer, hosts, at):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        signing = serialization.load_pem_private_key(authority.key.read_bytes(), None)
        assert isinstance(signing, ec.EllipticCurvePrivateKey)
        certificate = (
            _builder(name, signer.subject, key.public_key(), at, MEMBER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
            .add_extension(x509.ExtendedKeyUsage(_USES), critical=False)
            .add_extension(_signed_by(signer), critical=False)
            .sign(signing, hashes.SHA256())
        )
        replace_privately(path, _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error
    return True


def _signed_by(signer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Tells the authority from one that was replaced, which has the same name."""
    key = signer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


_USES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def _make_authority(authority: Authority, at: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("fluidpy pool authority")
    certificate = (
        _builder("fluidpy pool authority", name, key.public_key(), at, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The key first: a certificate without its key is made again.
    replace_privately(authority.key, _pem(key))
    replace_privately(authority.certificate, certificate.public_bytes(serialization.Encoding.PEM))


_SIGNS: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(at + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def _is_valid(authority: Authority, at: datetime) -> bool:
    """Whether the authority is whole and will outlive what it signs."""
    certificate = _read_certificate(authority.certificate)
    if certificate is None or certificate.not_valid_after_utc < at + timedelta(days=MEMBER_DAYS):
        return False
    try:
        key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return False
    return key.public_key() == certificate.public_key()


def _still_fits(path: Path, signer: x509.Certificate, hosts: Sequence[str], at: datetime) -> bool:
    certificate = _read_certificate(path)
    if certificate is None:
        return False
    left = certificate.not_valid_after_utc - at
    if left < timedelta(days=MEMBER_DAYS) / 3:
        return False
    try:
        certificate.verify_directly_issued_by(signer)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:  # noqa: BLE001 - InvalidSignature and others: it is issued anew
        return False
    return list(names.value) == _names(hosts)


def _read_certificate(path: Path) -> x509.Certificate | None:
    """The certificate of a PEM file; None when there is none in it."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _failure(path: Path, error: Exception) -> ClusterError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ClusterError(
        f"certificates cannot be made at {path}: {reason}",
        cure="Make that folder writable for this user, or free space there.",
    )
