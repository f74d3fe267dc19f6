"""`hello`, `status`, `stop`: about the worker itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from fluidpy.client.protocol import PROTOCOL_VERSION, Message
from fluidpy.telemetry.counters import total
from fluidpy.worker.cache_operations import tier_rows
from fluidpy.worker.requests import Answer, Progress, Reply

if TYPE_CHECKING:
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.pool import Pool
    from fluidpy.worker.session import Session
    from fluidpy.worker.worker import Worker

FIRST_COUNT_SECONDS: Final = 0.5
"""How long `status` waits for the first count of what is cached; later ones it never waits for."""


def hello(session: Session, request: Message, _: Progress) -> Answer:
    """`hello`: who is there; a client of another protocol version sees it by `version`."""
    return Reply(
        {
            "pid": os.getpid(),
            "version": PROTOCOL_VERSION,
            "block_bytes": session.worker.settings.block_bytes,
            "cache_dir": os.fspath(session.worker.settings.cache_dir),
            **_membership(session.worker.pool),
        }
    )


def _membership(pool: Pool | None) -> Message:
    """What a worker of a pool is in it."""
    if pool is None:
        return {}
    return {"member": pool.name, "address": pool.address, "tls": pool.tls}


def status(session: Session, request: Message, _: Progress) -> Answer:
    """`status`: Datasets, connections, tiers and counters (estimates: hits that a client or the
    kernel serves itself do not reach the worker)."""
    return _status(session)


async def _status(session: Session) -> Reply:
    worker = session.worker
    waits = [dataset.counts.settle(FIRST_COUNT_SECONDS) for dataset in worker.datasets]
    await asyncio.gather(*waits)
    return Reply(state_of(worker))


def state_of(worker: Worker) -> Message:
    """What a worker says of itself, at once: `status` and the metrics are made of it."""
    datasets, pool, moving = list(worker.datasets), worker.pool, worker.rebalancing
    return {
        "pid": os.getpid(),
        "seconds": round(time.monotonic() - worker.started_at, 3),
        "connections": worker.connections,
        "datasets": [_dataset_row(each, worker.datasets.users_of(each.place)) for each in datasets],
        "tiers": [row for store in worker.stores for row in tier_rows(store)],
        "counters": total(dataset.counters for dataset in datasets).to_wire(),
        "bytes_under_way": worker.fills.admission.bytes_running,
        **_membership(pool),
        **({} if pool is None else {"generation": pool.generation}),
        **({} if moving is None else {"rebalance": moving.to_wire()}),
    }


def _dataset_row(dataset: AttachedDataset, users: Collection[object]) -> Message:
    return {
        "dataset": dataset.id,
        "key": dataset.definition.key,
        "digest": dataset.digest,
        "catalog": str(dataset.namespace.catalog_path),
        "clients": len(users),
        "client_pids": sorted({getattr(user, "pid", 0) for user in users}),
        "mounts": [{"name": mount.name, "path": mount.path} for mount in dataset.definition.mounts],
        "listing_failures": dataset.namespace.listing_failures,
        "omitted": dataset.namespace.reader.omitted(),
        "counters": dataset.counters.to_wire(),
        **dataset.counts.to_wire(),
    }


def stop(session: Session, request: Message, _: Progress) -> Answer:
    """`stop`: the worker ends cleanly once this answer is sent."""
    session.worker.stop("a client asked for it")
    return Reply({"pid": os.getpid()})
