"""TLS between workers: both sides show a certificate that the pool's own authority signed.

Needs the standard library only; `certificates` makes the files. A certificate that was issued anew
is taken up by `refresh`, for connections that are made from then on.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from fluidpy.errors import ClusterError

_Load: TypeAlias = Callable[[Path], None]

_CURE = "Run `fluidpy up`, which makes certificates for all workers."


class PeerTls:
    """The two contexts of one worker, `server` and `client`.

    An authority that was replaced is trusted beside the one before, until the worker ends.
    """

    def __init__(self, certificate: Path, authority: Path) -> None:
        """`certificate` is a PEM file with the worker's certificate and key, `authority` one with
        the certificate that signed those of all workers.

        Raises ClusterError naming the file that cannot be used.
        """
        self._certificate = certificate
        self._authority = authority
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (self.server, self.client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            self._load(context.load_verify_locations, authority)
        self.client.check_hostname = True
        self._seen = self._look()
        self._load_certificate()

    def refresh(self) -> bool:
        """Takes up certificate and authority if a file is another one than before; whether it was.

        Raises ClusterError when one cannot be used; those before hold on then.
        """
        seen = self._look()
        if seen == self._seen:
            return False
        self._load_certificate()
        for context in (self.server, self.client):
            self._load(context.load_verify_locations, self._authority)
        self._seen = seen
        return True

    def _look(self) -> tuple[int, ...]:
        found: list[int] = []
        for path in (self._certificate, self._authority):
            try:
                facts = path.stat()
            except OSError as error:
                raise _unusable(path, error) from error
            found += (facts.st_ino, facts.st_mtime_ns)
        return tuple(found)

    def _load_certificate(self) -> None:
        for context in (self.server, self.client):
            self._load(context.load_cert_chain, self._certificate)

    def _load(self, load: _Load, path: Path) -> None:
        try:
            load(path)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> ClusterError:
    return ClusterError(
        f"certificate file {path} cannot be used: {error.strerror or error}", cure=_CURE
    )
