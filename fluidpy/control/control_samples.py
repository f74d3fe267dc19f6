"""What the control plane exports to Prometheus, out of the objects it keeps. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fluidpy.control.observed import WorkerShare, source_totals
from fluidpy.telemetry.metrics import Sample

_OPERATIONS: Final = ("DataLoad", "DataMigrate", "DataBackup", "DataProcess")


def object_samples(documents: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    """Samples of all objects: how many there are, phases, workers, and how far operations are."""
    kinds: Counter[str] = Counter()
    for document in documents:
        kind = str(document["kind"])
        kinds[kind] += 1
        if kind == "Dataset":
            labels = {"dataset": _place(document), "phase": _status(document).get("phase", "")}
            yield Sample("fluidpy_dataset_phase", 1, labels)
        elif kind.endswith("Runtime"):
            yield from _runtime(kind, document)
        elif kind in _OPERATIONS:
            yield from _operation(kind, document)
    for kind, number in sorted(kinds.items()):
        yield Sample("fluidpy_control_objects", number, {"kind": kind})


def dataset_samples(dataset: str, shares: Iterable[WorkerShare]) -> Iterator[Sample]:
    """Sizes of a Dataset (`namespace/name`) as its workers report them, Fluid's two among them.

    What is not known yet is left out: a missing sample is no zero.
    """
    labels, known = {"dataset": dataset}, list(shares)
    totals = source_totals(known)
    if totals is not None and totals.complete:
        yield Sample("dataset_ufs_total_size", totals.bytes, labels)
        yield Sample("dataset_ufs_file_num", totals.files, labels)
    cached = sum(share.cached_bytes for share in known)
    yield Sample("fluidpy_dataset_cached_bytes", cached, labels)
    capacity = sum(share.capacity_bytes for share in known)
    yield Sample("fluidpy_dataset_cache_capacity_bytes", capacity, labels)


def _place(document: Mapping[str, Any]) -> str:
    metadata = document["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}"


def _status(document: Mapping[str, Any]) -> Mapping[str, Any]:
    status: Mapping[str, Any] = document.get("status", {})
    return status


def _runtime(kind: str, document: Mapping[str, Any]) -> Iterator[Sample]:
    status = _status(document)
    worker = status.get("worker", {})
    desired = status.get("desiredWorkerNumberScheduled", worker.get("desiredReplicas", 0))
    ready = status.get("workerNumberReady", worker.get("readyReplicas", 0))
    labels = {"runtime_type": kind.removesuffix("Runtime").lower(), "runtime": _place(document)}
    yield Sample("fluidpy_runtime_workers_desired", desired, labels)
    yield Sample("fluidpy_runtime_workers_ready", ready, labels)


def _operation(kind: str, document: Mapping[str, Any]) -> Iterator[Sample]:
    status = _status(document)
    labels = {"kind": kind, "operation": _place(document)}
    yield Sample("fluidpy_operation_phase", 1, {**labels, "phase": status.get("phase", "")})
    done = status.get("progress", {}).get("bytes", 0)
    yield Sample("fluidpy_operation_done_bytes", done, labels)
