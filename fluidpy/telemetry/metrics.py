"""The one table of Prometheus metrics: name, kind, help and labels of each.

Whoever measures makes `Sample`s; `exposition.render` refuses a sample that the table does not know.
`docs/metrics.md` is this table, and a test compares the two: `python -m fluidpy.telemetry.metrics`
prints the page. Names follow Prometheus' rules (unit, then `_total` for counters); `dataset` is
always `NAMESPACE/NAME`. No label is a path, a user or a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fluidpy.telemetry.counters import COUNTERS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text format that every Prometheus reads."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `by` is what exports it: a `worker`, or the `control` plane."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    by: Literal["worker", "control"] = "worker"


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric of the table, with a value for each of its labels."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def counter_metric(counter: str) -> str:
    """The metric of a counter of `counters.COUNTERS`: `bytes_from_cache` is
    `fluidpy_worker_from_cache_bytes_total`, the unit standing at the end.
    """
    if counter.startswith("bytes_"):
        counter = f"{counter.removeprefix('bytes_')}_bytes"
    return f"fluidpy_worker_{counter}_total"


def _control(name: str, kind: Literal["counter", "gauge"], text: str, *labels: str) -> Metric:
    return Metric(name, kind, text, labels, "control")


_TABLE: Final = (
    Metric("fluidpy_worker_up_seconds", "gauge", "seconds that the worker has run"),
    Metric("fluidpy_worker_connections", "gauge", "clients connected to the worker's socket"),
    Metric("fluidpy_worker_datasets", "gauge", "Datasets that the worker has open"),
    Metric("fluidpy_worker_under_way_bytes", "gauge", "bytes being fetched at this moment"),
    Metric("fluidpy_worker_tier_used_bytes", "gauge", "bytes taken in a cache tier",
           ("tier", "medium")),
    Metric("fluidpy_worker_tier_quota_bytes", "gauge", "bytes that a cache tier may hold",
           ("tier", "medium")),
    Metric("fluidpy_worker_cached_bytes", "gauge", "bytes of a Dataset that the worker has cached",
           ("dataset",)),
    Metric("fluidpy_worker_listing_failures_total", "counter",
           "listings of a source that failed", ("dataset",)),
    Metric("fluidpy_worker_errors_total", "counter",
           "reads and loads that failed, by class of the error", ("dataset", "error")),
    *(
        Metric(counter_metric(name), "counter", meaning, ("dataset",))
        for name, meaning in COUNTERS.items()
    ),
    Metric("fluidpy_worker_peer_connections", "gauge", "connections of other workers of the pool"),
    Metric("fluidpy_worker_peer_requests_total", "counter",
           "requests of other workers for data, by HTTP status; 499: broken off", ("status",)),
    Metric("fluidpy_worker_peer_sent_bytes_total", "counter",
           "bytes sent to other workers, by origin: the cache, or the source just then",
           ("origin",)),
    Metric("fluidpy_worker_peer_under_way_bytes", "gauge",
           "bytes of answers to other workers under way"),
    _control("dataset_ufs_total_size", "gauge", "bytes of a Dataset at its sources", "dataset"),
    _control("dataset_ufs_file_num", "gauge", "files of a Dataset at its sources", "dataset"),
    _control("runtime_setup_error_total", "counter", "set-ups of a runtime that failed",
             "runtime_type", "runtime"),
    _control("runtime_sync_healthcheck_error_total", "counter",
             "looks at a runtime at which some of its workers were not ready",
             "runtime_type", "runtime"),
    _control("fluidpy_dataset_phase", "gauge", "1 for the phase that a Dataset is in",
             "dataset", "phase"),
    _control("fluidpy_dataset_cached_bytes", "gauge",
             "bytes of a Dataset that its workers have cached", "dataset"),
    _control("fluidpy_dataset_cache_capacity_bytes", "gauge",
             "bytes that the workers of a Dataset may cache", "dataset"),
    _control("fluidpy_runtime_workers_desired", "gauge", "workers that a runtime declares",
             "runtime_type", "runtime"),
    _control("fluidpy_runtime_workers_ready", "gauge", "workers of a runtime that are ready",
             "runtime_type", "runtime"),
    _control("fluidpy_operation_phase", "gauge", "1 for the phase that a data operation is in",
             "kind", "operation", "phase"),
    _control("fluidpy_operation_done_bytes", "gauge", "bytes that a data operation has done",
             "kind", "operation"),
    _control("fluidpy_control_worker_restarts_total", "counter",
             "workers started again because they had ended", "worker"),
    _control("fluidpy_control_objects", "gauge", "objects that the control plane keeps", "kind"),
    _control("fluidpy_control_reconcile_errors_total", "counter",
             "reconciliations that failed and are tried again", "kind"),
)  # fmt: skip

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _TABLE}
"""Every metric by its name."""


def page() -> str:
    """The text of `docs/metrics.md`."""
    return "\n".join(_page_lines()) + "\n"


_INTRODUCTION: Final = """\
# Metrics

Prometheus' text format, under `/metrics`. Metrics without the prefix `fluidpy_` are those that
Fluid's controllers export, with the same names and labels. `dataset`, `runtime` and `operation` are
`NAMESPACE/NAME`. What the kernel or a client's open file serves does not reach a worker, so ratios
made of these numbers are estimates, on the low side for hits. A worker that serves alone, without a
control plane, has no network address and no metrics, but counters in `fluidpy status -o json`."""


def _page_lines() -> Iterator[str]:
    yield _INTRODUCTION
    titles = {
        "worker": "Each worker of a pool, on its network address",
        "control": "The control plane, on its socket",
    }
    for by, title in titles.items():
        yield from (
            "",
            f"## {title}",
            "",
            "| metric | kind | labels | meaning |",
            "|---|---|---|---|",
        )
        for metric in METRICS.values():
            if metric.by == by:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


if __name__ == "__main__":
    print(page(), end="")
