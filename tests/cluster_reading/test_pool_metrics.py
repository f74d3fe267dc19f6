"""What the workers of a pool show on the network to anybody: health and metrics, no secret."""

from __future__ import annotations

import urllib.request

from tests.cluster_reading.bed import DATASET, TOKEN
from tests.cluster_reading.conftest import MakePool


def shown(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def test_metrics_tell_what_a_worker_did(make_pool: MakePool) -> None:
    files = {f"f{n}": b"x" * 1000 for n in range(40)}
    pool = make_pool(files, "ab")
    pool.check("ab", files)
    text = ""
    for worker in pool.workers.values():
        assert shown(worker.address, "/readyz") == "ok\n"
        metrics = shown(worker.address, "/metrics")
        assert "fluidpy_worker_datasets 1.0" in metrics
        assert f'fluidpy_worker_from_source_bytes_total{{dataset="{DATASET}"}}' in metrics
        text += metrics
    assert "fluidpy_worker_peer_sent_bytes_total{" in text
    assert TOKEN not in text
    assert str(pool.directory) not in text
