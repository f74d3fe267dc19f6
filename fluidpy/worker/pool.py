"""This worker as a member of a pool: whom it knows, what it serves them, how it reads from them.

The membership file is looked at five times a second. While it is missing or cannot be read, the
last good one holds: a worker never leaves its pool because somebody wrote a file badly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from fluidpy.cluster.hedging import Hedging
from fluidpy.cluster.membership import Membership, read_membership
from fluidpy.cluster.peer_client import PeerClient
from fluidpy.cluster.peer_health import PeerHealth
from fluidpy.cluster.peer_tls import PeerTls
from fluidpy.cluster.placement import Placement
from fluidpy.errors import ClusterError, UsageError
from fluidpy.worker.peer_objects import PeerObjects
from fluidpy.worker.peer_reads import DatasetPeers, PeerReads
from fluidpy.worker.peer_server import PeerServer

if TYPE_CHECKING:
    from pathlib import Path

    from fluidpy.namespace.definition import DatasetDefinition
    from fluidpy.settings import Settings
    from fluidpy.telemetry.metrics import Sample
    from fluidpy.worker.datasets import Datasets
    from fluidpy.worker.fills import FillTable

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.2
"""Time between two looks at the membership file: one `stat`, 2 µs."""


class Pool:
    """What a worker knows of its pool; `start` it in its loop, then let `watch` run."""

    def __init__(self, settings: Settings, fills: FillTable) -> None:
        """Reads and opens nothing yet."""
        self.name = settings.member_name
        self.address = ""
        self.membership = Membership(0, (), {})
        self.on_change: list[Callable[[Membership], None]] = []
        """Called with each new membership, after it is in use here."""
        self._file: Path | None = settings.membership_file
        self._listen = settings.listen
        self._seen: tuple[int, int, int] | None = None
        self._placements: dict[str, Placement | None] = {}
        self._tls = _tls_of(settings)
        self._plain = settings.plain_network
        self._client = PeerClient(tls=None if self._tls is None else self._tls.client)
        self._server: PeerServer | None = None
        self._fills = fills
        self.reads = PeerReads(self._client, PeerHealth(), Hedging(), fills.may_log)

    @property
    def tls(self) -> bool:
        """Whether it speaks TLS with the others."""
        return self._tls is not None

    @property
    def generation(self) -> int:
        """That of the membership in use; 0 before there is one."""
        return self.membership.generation

    async def start(self, datasets: Datasets, samples: Callable[[], Iterable[Sample]]) -> None:
        """Reads the membership and listens; `samples` are the worker's metrics.

        Raises UsageError, ClusterError when it cannot.
        """
        if self._listen:
            self._server = PeerServer(PeerObjects(datasets, self._fills), samples=samples)
            tls = None if self._tls is None else self._tls.server
            self.address = await self._server.start(self._listen, tls=tls, plain=self._plain)
        self.look()

    async def watch(self) -> None:
        """Looks at the membership file, and at this worker's certificate, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
            if self._tls is not None:
                self._refresh(self._tls)

    def _refresh(self, tls: PeerTls) -> None:
        try:
            if tls.refresh():
                _log.info("a new certificate is in use")
        except ClusterError as error:
            if self._fills.may_log("certificate"):
                _log.error("the certificate used so far stays in use: %s", error)

    def look(self) -> None:
        """Takes up the membership, if the file is another one than when last looked at."""
        if self._file is None:
            return
        try:
            facts = self._file.stat()
        except OSError:
            return  # not written yet, or removed: the last one holds
        seen = (facts.st_mtime_ns, facts.st_ino, facts.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            membership = read_membership(self._file)
        except ClusterError as error:
            _log.error("the pool stays as it was known: %s", error)
            return
        self.use(membership)

    def use(self, membership: Membership) -> None:
        """Goes on with this membership."""
        if membership.generation < self.generation:
            _log.warning(
                "membership %d is older than %d, which is in use",
                membership.generation,
                self.generation,
            )
            return
        self.membership = membership
        self._placements.clear()
        self._client.use(membership)
        if self._server is not None:
            self._server.use(membership)
            own = membership.member(self.name)
            self._server.drain(own is not None and own.draining)
        _log.info("pool: generation %d, %d members", membership.generation, len(membership.members))
        for listener in self.on_change:
            try:
                listener(membership)
            except Exception as error:  # noqa: BLE001 - the pool is known; a worker lives on
                _log.error("not all follows generation %d", membership.generation, exc_info=error)

    def placement(self, dataset: str) -> Placement | None:
        """Who owns the units of a Dataset; None when no other worker has to do with it."""
        try:
            return self._placements[dataset]
        except KeyError:
            found = self._placements[dataset] = self._placed(dataset)
            return found

    def _placed(self, dataset: str) -> Placement | None:
        placed = self.membership.datasets.get(dataset)
        if placed is None or not {*placed.members, *placed.previous} - {self.name}:
            return None
        return Placement(self.membership, dataset)

    def peers_for(self, definition: DatasetDefinition) -> DatasetPeers:
        """The other workers as a Dataset's fills see them."""
        return DatasetPeers(self, definition)

    async def close(self) -> None:
        """Serves and asks nobody any more."""
        if self._server is not None:
            await self._server.close()
        self._client.close()


def _tls_of(settings: Settings) -> PeerTls | None:
    """TLS with the certificates that the settings name. Raises ClusterError, UsageError."""
    certificate, authority = settings.certificate_file, settings.authority_file
    if certificate is None and authority is None:
        return None
    if certificate is None or authority is None:
        raise UsageError(
            "of certificate_file and authority_file only one is set",
            cure="Set both for TLS between workers, or none of them.",
        )
    return PeerTls(certificate, authority)
