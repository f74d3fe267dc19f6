"""One table of metrics: the page tells it, samples obey it, Prometheus' own parser reads it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fluidpy.control.control_samples import dataset_samples, object_samples
from fluidpy.control.observed import SourceTotals
from fluidpy.telemetry.counters import COUNTERS, Counters
from fluidpy.telemetry.exposition import render
from fluidpy.telemetry.metrics import METRICS, Sample, counter_metric, page
from fluidpy.telemetry.worker_samples import worker_samples
from tests.control_objects.objects import share

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_the_table() -> None:
    message = "run: python -m fluidpy.telemetry.metrics > docs/metrics.md"
    assert PAGE.read_text() == page(), message


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_follow_prometheus(metric: object) -> None:
    from fluidpy.telemetry.metrics import Metric

    assert isinstance(metric, Metric)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help
    assert metric.by == "control" or metric.name.startswith("fluidpy_worker_")
    assert not {"path", "user", "secret"} & set(metric.labels)


def test_fluids_own_metrics_are_there() -> None:
    fluids = {
        "dataset_ufs_file_num": ("dataset",),
        "dataset_ufs_total_size": ("dataset",),
        "runtime_setup_error_total": ("runtime_type", "runtime"),
        "runtime_sync_healthcheck_error_total": ("runtime_type", "runtime"),
    }
    assert {name: METRICS[name].labels for name in fluids} == fluids


def test_every_counter_is_exported() -> None:
    names = {counter_metric(name) for name in COUNTERS}
    assert len(names) == len(COUNTERS)
    assert names <= set(METRICS)
    assert counter_metric("bytes_from_cache") == "fluidpy_worker_from_cache_bytes_total"


def test_a_worker_is_read_by_prometheus_own_parser() -> None:
    counters = Counters()
    counters.opens = 7
    counters.count_error("SourceError")
    row = {"key": 'default/"pets"', "listing_failures": 2, "counters": counters.to_wire()}
    tier = {"directory": "/secret/place", "medium": "SSD", "used_bytes": 5, "quota_bytes": 9}
    text = render(worker_samples({"seconds": 1.5, "datasets": [row], "tiers": [tier]})).decode()
    assert "/secret/place" not in text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    pets = ("dataset", 'default/"pets"')
    assert samples["fluidpy_worker_opens_total", (pets,)] == 7
    assert samples["fluidpy_worker_errors_total", (pets, ("error", "SourceError"))] == 1
    assert samples["fluidpy_worker_tier_used_bytes", (("medium", "SSD"), ("tier", "0"))] == 5
    assert {name for name, _ in samples} <= set(METRICS)


def test_the_control_plane_tells_of_its_objects() -> None:
    place = {"name": "pets", "namespace": "default"}
    documents = [
        {"kind": "Dataset", "metadata": place, "status": {"phase": "Bound"}},
        {"kind": "CacheRuntime", "metadata": place,
         "status": {"worker": {"desiredReplicas": 2, "readyReplicas": 1}}},
        {"kind": "DataLoad", "metadata": {"name": "warm"},
         "status": {"phase": "Executing", "progress": {"bytes": 7}}},
        {"kind": "Secret", "metadata": place, "data": {"k": "hush"}},
    ]  # fmt: skip
    totals = SourceTotals(3, 9, complete=True)
    samples = [
        *object_samples(documents),
        *dataset_samples("default/pets", [share(cached=5, quota=8, totals=totals)]),
    ]
    text = render(samples).decode()
    assert 'dataset_ufs_total_size{dataset="default/pets"} 9.0' in text
    assert 'fluidpy_dataset_phase{dataset="default/pets",phase="Bound"} 1.0' in text
    assert 'fluidpy_runtime_workers_ready{runtime="default/pets",runtime_type="cache"} 1.0' in text
    assert 'fluidpy_control_objects{kind="Secret"} 1.0' in text
    assert "hush" not in text
    unknown = list(dataset_samples("default/pets", [share()]))
    assert "dataset_ufs_total_size" not in {sample.name for sample in unknown}


@pytest.mark.parametrize(
    "sample",
    [
        Sample("fluidpy_worker_unheard_of", 1),
        Sample("fluidpy_worker_opens_total", 1),
        Sample("fluidpy_worker_opens_total", 1, {"dataset": "a/b", "path": "/x"}),
    ],
)
def test_what_is_not_declared_is_refused(sample: Sample) -> None:
    with pytest.raises(ValueError, match="is not declared"):
        render([sample])


def test_a_process_that_nobody_scrapes_does_not_pay_for_it() -> None:
    script = (
        "import sys, fluidpy.worker.worker, fluidpy.telemetry.worker_samples;"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
