"""Who reads through which worker: mounts, which must find another one before theirs ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fluidpy.control.pool_worker import PoolWorker
from fluidpy.namespace.definition import DatasetDefinition


def client_pids(worker: PoolWorker, key: str) -> set[int]:
    """The processes that have the Dataset `namespace/name` open at a worker."""
    rows = (worker.status or {}).get("datasets", ())
    return {int(pid) for row in rows if row["key"] == key for pid in row.get("client_pids", ())}


def used_by_mounts(
    workers: Mapping[str, PoolWorker], rows: Sequence[Mapping[str, Any]], keys: Collection[str]
) -> dict[str, list[str]]:
    """The members that mounts (`rows` of their records) read through, with the Datasets of those.

    Programs are not counted: they go to another worker when theirs has ended.
    """
    pids = {int(row.get(name, 0)) for row in rows for name in ("serverPid", "holderPid")}
    used = {
        name: [key for key in keys if client_pids(worker, key) & pids]
        for name, worker in workers.items()
    }
    return {name: found for name, found in used.items() if found}


def held_by_mounts(
    used: Mapping[str, Sequence[str]],
    definitions: Mapping[str, DatasetDefinition],
    workers_of: Callable[[str], Sequence[PoolWorker]],
) -> frozenset[str]:
    """Those of them that must stay: no other worker serves what their mounts read, yet."""

    def has_another(name: str, key: str) -> bool:
        definition = definitions.get(key)
        return definition is not None and any(
            other.name != name and other.serves(definition) for other in workers_of(key)
        )

    return frozenset(
        name for name, keys in used.items() if not all(has_another(name, key) for key in keys)
    )
