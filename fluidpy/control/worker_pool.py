"""The pool of workers: carries out memberships. One file says who is in it, one task keeps each."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from fluidpy.cluster.membership import (
    DatasetMembership,
    Member,
    Membership,
    read_membership,
    write_membership,
)
from fluidpy.control.pool_certificates import PoolCertificates, needs_tls
from fluidpy.control.pool_plan import EMPTY
from fluidpy.control.pool_worker import PoolWorker, worker_settings
from fluidpy.errors import ClusterError, ControlPlaneError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

THREADS: Final = 64
"""Calls of workers under way at once; a worker needs one, and blocks it while it does not answer.
Threads are made when they are needed."""

PORTS: Final = range(20000, 32768)
"""Ports of workers: below those that the kernel gives to outgoing connections
(`ip_local_port_range`), so that none takes a worker's while it restarts."""

TOKEN_BYTES: Final = 32
"""Length of a Dataset's token before it is written as text."""

FAILURES_BEFORE_ANOTHER_PORT: Final = 2
"""Starts that failed in a row, after which the port may be what is wrong."""


class WorkerPool:
    """The workers of a membership; `carry_out` makes it so."""

    def __init__(self, settings: Settings, on_change: Callable[[], None]) -> None:
        """Takes up the membership that was carried out last.

        Raises ControlPlaneError, also for a `pool_host` that is not this machine's, and
        ClusterError when certificates are needed and cannot be made.
        """
        self._settings = settings
        self._on_change = on_change
        self._folder = settings.state_dir / "pool"
        self._file = self._folder / "membership.json"
        self._certificates = PoolCertificates(settings) if needs_tls(settings) else None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="worker-call")
        self._stopping: set[asyncio.Task[None]] = set()
        self._looked = False
        self.workers: dict[str, PoolWorker] = {}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.membership = read_membership(self._file) if self._file.exists() else EMPTY
        except ClusterError as error:
            _log.error("%s: a new pool is made", error)
            self.membership = EMPTY
        except OSError as error:
            raise ControlPlaneError(
                f"{self._folder} cannot be used: {error.strerror}",
                cure="Set FLUIDPY_STATE_DIR to a directory of your own.",
            ) from error
        _check_host(settings.pool_host)
        if self._certificates is not None:
            self._certificates.keep(self.membership.members)

    def carry_out(self, plan: Membership) -> None:
        """Writes the membership down, and starts and stops workers accordingly.

        Raises ClusterError when it, or a certificate that it needs, cannot be written: then all
        stays as it was.
        """
        plan = self._filled(plan)
        if self._certificates is not None:
            self._certificates.keep(plan.members)
        if plan != self.membership or not self._file.exists():
            write_membership(self._file, plan)
            self.membership = plan
        names = {member.name for member in plan.members}
        for name in set(self.workers) - names:
            self._stop(self.workers.pop(name))
        self._stop_left(names)
        busy = {task.get_name() for task in self._stopping}
        for member in plan.members:
            if member.name not in self.workers and member.name not in busy:
                self._start(member)

    def want(
        self, definitions: Mapping[str, DatasetDefinition], evict: Collection[str] = ()
    ) -> None:
        """Has each worker serve the Datasets that lie on it, by these definitions."""
        for name, worker in self.workers.items():
            placed = {
                key: definitions[key]
                for key, one in self.membership.datasets.items()
                if key in definitions and name in (*one.members, *one.previous)
            }
            worker.want(placed, set(evict))

    def is_settled(self) -> bool:
        """Whether every worker has moved what the present membership wants of it."""
        return all(
            worker.is_ready and _has_moved(worker, self.membership.generation)
            for worker in self.workers.values()
        )

    def knows_users_of(self, dataset: str) -> bool:
        """Whether each worker that it lies on has told who uses it, or cannot since none starts."""
        placed = self.membership.datasets.get(dataset)
        names = () if placed is None else (*placed.members, *placed.previous)
        found = [self.workers.get(name) for name in names if self.membership.member(name)]
        return all(one is not None and (one.has_answered or one.failed_starts) for one in found)

    @property
    def moved_bytes(self) -> int:
        """What the workers took over from one another, as they told last."""
        moves = [(worker.status or {}).get("rebalance") for worker in self.workers.values()]
        return sum(int(each.get("moved_bytes", 0)) for each in moves if isinstance(each, dict))

    async def close(self, *, stop: bool) -> None:
        """Stops all workers, or lets them go on for the next control plane."""
        workers, self.workers = list(self.workers.values()), {}
        await asyncio.gather(*(worker.stop() if stop else worker.leave() for worker in workers))
        await asyncio.gather(*self._stopping)
        self._threads.shutdown(wait=False)

    def _start(self, member: Member) -> None:
        self.workers[member.name] = self._worker(member.name, member.address)

    def _worker(self, name: str, address: str) -> PoolWorker:
        certificates = self._certificates
        settings = replace(
            self._settings,
            certificate_file=None if certificates is None else certificates.of(name),
            authority_file=None if certificates is None else certificates.authority,
        )
        return PoolWorker(name, address, settings, self._file, self._threads, self._on_change)

    def _stop_left(self, names: Collection[str]) -> None:
        """Stops what an earlier control plane wrote out of the membership and did not end."""
        if self._looked:
            return
        self._looked = True
        for folder in sorted((self._settings.runtime_dir / "w").glob("*")):
            name = folder.name
            if name in names or not worker_settings(self._settings, name).worker_socket.exists():
                continue
            _log.warning("%s is left and no member of the pool: it is stopped", name)
            self._stop(self._worker(name, ""))

    def _stop(self, worker: PoolWorker) -> None:
        task = asyncio.get_running_loop().create_task(worker.stop(), name=worker.name)
        self._stopping.add(task)
        task.add_done_callback(self._stopped)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._stopping.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s could not be stopped", task.get_name(), exc_info=error)
        self._on_change()

    def _filled(self, plan: Membership) -> Membership:
        """The plan with addresses and tokens; a worker that does not start gets another port."""
        taken = {member.address for member in plan.members}
        members = tuple(self._addressed(member, taken) for member in plan.members)
        datasets = {key: _with_token(one) for key, one in plan.datasets.items()}
        authority = None if self._certificates is None else self._certificates.authority
        filled = replace(
            plan,
            members=members,
            datasets=datasets,
            tls=authority is not None,
            ca_file=authority,
        )
        if filled != plan and plan.generation == self.membership.generation:
            return replace(filled, generation=plan.generation + 1)
        return filled

    def _addressed(self, member: Member, taken: set[str]) -> Member:
        worker = self.workers.get(member.name)
        stuck = worker is not None and worker.state == "Failed" and worker.failed_starts > 0
        host = self._settings.pool_host
        if _host_of(member.address) == host and not (
            stuck
            and worker is not None
            and worker.failed_starts % FAILURES_BEFORE_ANOTHER_PORT == 0
            and not _is_free(member.address)
        ):
            return member
        address = _free_address(host, taken)
        taken.add(address)
        if worker is not None:
            worker.address = address
        return replace(member, address=address)


def _with_token(dataset: DatasetMembership) -> DatasetMembership:
    return dataset if dataset.token else replace(dataset, token=secrets.token_urlsafe(TOKEN_BYTES))


def _has_moved(worker: PoolWorker, generation: int) -> bool:
    status = worker.status or {}
    moved = status.get("rebalance")
    if not isinstance(moved, dict):  # it moves nothing
        return int(status.get("generation", generation)) >= generation
    return int(moved.get("generation", 0)) >= generation and bool(moved.get("done"))


def _check_host(host: str) -> None:
    if not _is_free(_written(host, 0)):
        raise ControlPlaneError(
            f"no worker can listen at {host}: it is no address of this machine",
            cure="Set pool_host (FLUIDPY_POOL_HOST) to one of those that `ip address` shows.",
        )


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _free_address(host: str, taken: Collection[str]) -> str:
    for port in random.sample(PORTS, len(PORTS)):
        address = _written(host, port)
        if address not in taken and _is_free(address):
            return address
    raise ControlPlaneError(
        f"no worker can listen at {host}: no port between {PORTS.start} and {PORTS.stop} is free",
        cure="End what listens there.",
    )


def _is_free(address: str) -> bool:
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            _host_of(address), int(address.rpartition(":")[2]), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind | socket.SOCK_CLOEXEC) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError:
        return False
    return True
