"""What a worker exports to Prometheus, out of its `status` answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fluidpy.telemetry.counters import COUNTERS
from fluidpy.telemetry.metrics import Sample, counter_metric


def worker_samples(status: Mapping[str, Any]) -> Iterator[Sample]:
    """The samples of one worker. What an older worker does not tell is left out.

    A tier is told by its number, fastest first in each store: its directory is a path.
    """
    for metric, name in (
        ("fluidpy_worker_up_seconds", "seconds"),
        ("fluidpy_worker_connections", "connections"),
        ("fluidpy_worker_under_way_bytes", "bytes_under_way"),
    ):
        if name in status:
            yield Sample(metric, status[name])
    datasets = status.get("datasets", ())
    yield Sample("fluidpy_worker_datasets", len(datasets))
    for number, tier in enumerate(status.get("tiers", ())):
        labels = {"tier": str(number), "medium": str(tier["medium"])}
        yield Sample("fluidpy_worker_tier_used_bytes", tier["used_bytes"], labels)
        yield Sample("fluidpy_worker_tier_quota_bytes", tier["quota_bytes"], labels)
    for row in datasets:
        yield from _dataset_samples(row)


def _dataset_samples(row: Mapping[str, Any]) -> Iterator[Sample]:
    labels = {"dataset": str(row["key"])}
    if "cached_bytes" in row:
        yield Sample("fluidpy_worker_cached_bytes", row["cached_bytes"], labels)
    yield Sample("fluidpy_worker_listing_failures_total", row.get("listing_failures", 0), labels)
    counters = row.get("counters", {})
    for name in COUNTERS:
        if name in counters:
            yield Sample(counter_metric(name), counters[name], labels)
    for error, number in counters.get("errors", {}).items():
        yield Sample("fluidpy_worker_errors_total", number, {**labels, "error": str(error)})
