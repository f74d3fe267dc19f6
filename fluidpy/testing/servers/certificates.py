"""Certificates for servers with TLS on loopback, made by the program `openssl`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificate(NamedTuple):
    """PEM files: a server's certificate and key, and the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


def make_certificate(
    directory: Path, names: str = "DNS:localhost,IP:127.0.0.1", *, days: int = 2
) -> Certificate:
    """A certificate for `names` (the form of OpenSSL's subjectAltName) by an authority of its own.

    With negative `days` it has expired. Raises CalledProcessError when openssl refuses.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority, signing = directory / "authority.pem", directory / "authority.key"
    made = Certificate(directory / "server.pem", directory / "server.key", authority)
    _openssl(
        *("req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=authority for tests"),
        *("-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign"),
        *("-keyout", signing, "-out", authority),
    )
    request, extensions = directory / "server.csr", directory / "extensions"
    _openssl("req", *_KEY, "-subj", "/CN=server", "-keyout", made.key, "-out", request)
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    _openssl(
        *("x509", "-req", "-in", request, "-days", str(days), "-extfile", extensions),
        *("-CA", authority, "-CAkey", signing, "-CAcreateserial", "-out", made.certificate),
    )
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)
