"""Samples in Prometheus' text format, by the library `prometheus_client`.

Imported when somebody scrapes, for it takes a worker 1.4 MiB of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample as _PrometheusSample

from fluidpy.telemetry.metrics import METRICS, Metric, Sample

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily


def render(samples: Iterable[Sample]) -> bytes:
    """The text for a scraper: `metrics.CONTENT_TYPE`. Metrics without a sample are left out.

    Raises ValueError for a sample of a metric, or with labels, that the table does not declare.
    """
    families: dict[str, _Family] = {}
    for sample in samples:
        metric = METRICS.get(sample.name)
        if metric is None or set(metric.labels) != set(sample.labels):
            raise ValueError(f"{sample.name} with labels {sorted(sample.labels)} is not declared")
        if metric.name not in families:
            families[metric.name] = _family(metric)
        labels = {name: sample.labels[name] for name in metric.labels}
        families[metric.name].samples.append(_PrometheusSample(metric.name, labels, sample.value))
    registry = CollectorRegistry()
    registry.register(_Fixed(families))
    return generate_latest(registry)


def _family(metric: Metric) -> _Family:
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return make(metric.name, metric.help)


class _Fixed(Collector):
    """Hands out families that were made before."""

    def __init__(self, families: dict[str, _Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[_Family]:
        yield from self._families.values()
