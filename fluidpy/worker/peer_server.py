"""The worker on the network: an HTTP server that gives other workers of the pool what this one has.

It runs in the worker's event loop. Requests for data carry the token of their Dataset; health and
metrics are open to all and hold nothing secret. On an address that other machines reach it speaks
TLS and wants a certificate of the pool from whoever connects.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import web

from fluidpy.cluster.membership import Membership
from fluidpy.errors import ClusterError, UsageError
from fluidpy.telemetry.metrics import Sample
from fluidpy.worker.peer_answers import PeerAnswers, PeerSource
from fluidpy.worker.peer_sending import THREADS

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 30.0
"""A connection that brought no whole request for so long is closed; clients close theirs before."""

BACKLOG: Final = 512
"""Connections that may wait to be accepted: all peers of a large pool at once."""

HANDSHAKE_SECONDS: Final = 5.0
"""How long a peer may take to agree on TLS."""

MOST_CONNECTIONS: Final = 1024
"""Connections at once: 32 from each of 32 peers."""

UNSENT_SECONDS: Final = 20
"""A connection whose peer acknowledges nothing for so long is dead (TCP_USER_TIMEOUT)."""

CLOSE_SECONDS: Final = 1.0
"""How long answers under way may go on when the server closes."""


class PeerServer:
    """Serves a worker's objects to its peers; `start`, and `close` at the end."""

    def __init__(
        self, source: PeerSource, *, samples: Callable[[], Iterable[Sample]] = tuple
    ) -> None:
        """`samples` are what /metrics shows beside the server's own. Listens nowhere yet."""
        self.samples = samples
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fluidpy-send")
        self.answers = PeerAnswers(source, self._metrics, self._threads)
        self._http: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self.address = ""

    async def start(
        self, listen: str, *, tls: ssl.SSLContext | None = None, plain: bool = False
    ) -> str:
        """Listens at HOST:PORT (port 0: any) and answers with the address that it got.

        `plain` allows an address of a network without TLS. Raises UsageError for an address that
        is none or may not be plain, ClusterError when it cannot be had.
        """
        host, port = split_address(listen)
        if tls is None and not plain and not _is_loopback(host):
            raise UsageError(
                f"listening at {listen} without TLS would show data and tokens to the network",
                cure="Give the worker certificates, or set plain_network if the network is yours.",
            )
        loop = asyncio.get_running_loop()
        self._http = web.Server(
            self.answers.handle, access_log=None, keepalive_timeout=IDLE_SECONDS, lingering_time=2.0
        )
        sock = _bound(listen, host, port)
        self._listener = await loop.create_server(
            self._accept, sock=sock, ssl=tls, backlog=BACKLOG,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
        )  # fmt: skip
        self.address = f"{listen.rpartition(':')[0]}:{sock.getsockname()[1]}"
        _log.info("serving peers at %s%s", self.address, " with TLS" if tls else "")
        return self.address

    @property
    def connections(self) -> int:
        """Peers connected."""
        return 0 if self._http is None else len(self._http.connections)

    def _metrics(self) -> bytes:
        from fluidpy.telemetry.exposition import render  # takes 1.4 MiB, which few workers need

        return render([*self.samples(), *self._own_samples()])

    def _own_samples(self) -> Iterator[Sample]:
        answers = self.answers
        yield Sample("fluidpy_worker_peer_connections", self.connections)
        yield Sample("fluidpy_worker_peer_under_way_bytes", answers.turns.bytes_under_way)
        for status, number in answers.statuses.items():
            yield Sample("fluidpy_worker_peer_requests_total", number, {"status": str(status)})
        for origin, length in answers.bytes_sent.items():
            yield Sample("fluidpy_worker_peer_sent_bytes_total", length, {"origin": origin})

    def _accept(self) -> asyncio.BaseProtocol:
        """What serves a new connection."""
        assert self._http is not None
        if self.connections >= MOST_CONNECTIONS:
            return _Refused()
        return self._http()

    def use(self, membership: Membership) -> None:
        """Serves the Datasets of this membership from now on, to those who have their tokens."""
        self.answers.use(membership)

    def drain(self, on: bool = True) -> None:
        """Leaves: /readyz says so, nothing more is fetched, what is cached is still served."""
        self.answers.draining = on

    async def close(self) -> None:
        """Stops listening; answers under way get a moment. Harmless when done twice."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        if self._http is not None:
            self._http.pre_shutdown()
            await self._http.shutdown(CLOSE_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Refused(asyncio.Protocol):
    """A connection too many: its client goes elsewhere at once instead of waiting."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; an IPv6 host stands in brackets. Raises UsageError."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f"{address!r} is not an address to listen at", cure="Give HOST:PORT, port 0 for any."
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(listen: str, host: str, port: int) -> socket.socket:
    """A socket bound to the address; connections inherit its options."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_SECONDS * 1000)
            sock.bind(address)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise ClusterError(
            f"the worker cannot listen at {listen}: {error.strerror or error}",
            cure="Give `listen` an address of this machine and a port that is free (0: any).",
        ) from error
    return sock
