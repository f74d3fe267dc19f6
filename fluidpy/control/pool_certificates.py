"""The certificates of the pool: an authority of its own, and one certificate a worker.

They lie in `state_dir/pool/certificates`, for this user only. Workers take up a new certificate by
themselves. Without TLS nothing of this is made, and `cryptography` is not imported.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fluidpy.cluster.membership import Member
from fluidpy.errors import ClusterError
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3600.0
"""Time between two looks at how long certificates are still valid: they are renewed when a month of
their three is left, so that a failure to do so can be mended meanwhile."""


def needs_tls(settings: Settings) -> bool:
    """Whether the workers of a pool speak TLS with one another.

    On loopback only when it is asked for: it takes three to five times the processor time, and
    there only root sees what passes. Who does not trust other users of the machine asks for it:
    one could take the port of a worker that has just ended, and be told a token.
    """
    if settings.pool_tls or settings.certificate_file is not None:
        return True
    return not _is_loopback(settings.pool_host) and not settings.plain_network


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class PoolCertificates:
    """Sees that all members have a valid certificate; see `needs_tls`."""

    def __init__(self, settings: Settings) -> None:
        """Makes nothing yet."""
        self.directory = settings.state_dir / "pool" / "certificates"
        self.authority = self.directory / "authority.pem"
        """What all workers trust: the certificate, not the key."""
        self._seen: frozenset[tuple[str, str]] | None = None
        self._next_look = 0.0

    def of(self, name: str) -> Path:
        """The PEM file with the certificate and key of a worker."""
        return self.directory / f"{name}.pem"

    def keep(self, members: Iterable[Member]) -> None:
        """Issues what is missing or ends soon; costs nothing when that was looked at lately.

        Raises ClusterError when members have none; where one is only to be renewed, that is logged.
        """
        seen = frozenset((member.name, member.address) for member in members)
        now = time.monotonic()
        if seen == self._seen and now < self._next_look:
            return
        try:
            self._issue(seen)
        except ClusterError as error:
            if seen != self._seen:
                raise
            _log.error("certificates are not renewed: %s", error)
        self._seen, self._next_look = seen, now + LOOK_SECONDS

    def _issue(self, members: Iterable[tuple[str, str]]) -> None:
        try:
            from fluidpy.cluster.certificates import ensure_authority, issue
        except ImportError as error:
            raise ClusterError(
                f"TLS between workers needs a library that is not installed: {error.name}",
                cure="Install the extra: pip install 'fluidpy[control]'",
            ) from error
        authority = ensure_authority(self.directory)
        for name, address in members:
            host = address.rpartition(":")[0].strip("[]")
            if issue(authority, self.of(name), name, [host]):
                _log.info("a certificate for %s at %s was issued", name, host)
