"""Training libraries, in processes of their own. See requirements.txt beside this file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.training_dataset import Records
from tests.filesystem.conftest import Demo

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

RECORDS = 64


@pytest.fixture
def records(own_demo: Demo) -> Records:
    folder = own_demo.source / "records"
    folder.mkdir()
    for number in range(RECORDS):
        (folder / f"{number:03}").write_bytes(bytes([number]) * 20_000)
    return Records("fluid://demo/records", own_demo.options)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_torch_loader_reads_every_record(records: Records, method: str) -> None:
    torch_data: Any = pytest.importorskip("torch.utils.data")
    assert records[3] == (3, 20_000)  # the parent has a connection before it forks
    loader = torch_data.DataLoader(
        records, num_workers=2, batch_size=8, multiprocessing_context=method
    )
    for _ in range(2):
        seen = [pair for batch in loader for pair in zip(*batch, strict=True)]
        assert sorted(int(number) for number, _ in seen) == list(range(RECORDS))
        assert {int(size) for _, size in seen} == {20_000}


KILLED = """
import json, os, signal, sys, time, torch.utils.data
from tests.ecosystem.training_dataset import Records
if __name__ == "__main__":
    records = Records("fluid://demo/records", json.loads(sys.argv[1]))
    loader = torch.utils.data.DataLoader(records, num_workers=2, multiprocessing_context="fork")
    batches = iter(loader)
    next(batches)
    os.kill(batches._workers[0].pid, signal.SIGKILL)
    try:
        list(batches)
    except (RuntimeError, ConnectionError, EOFError):
        try:  # where the connection was noticed first, the signal's error is still to come
            batches._workers[0].join(60)
            time.sleep(0.1)
        except RuntimeError:
            pass
        print("told of it,", records[5])
"""


def test_a_torch_loader_whose_worker_is_killed_says_so(own_demo: Demo, records: Records) -> None:
    """In a process of its own: torch raises from a signal handler, wherever that strikes.

    It tells of the death, or of the connection to the dead process, whichever it notices first.
    """
    assert len(records) == RECORDS
    command = [sys.executable, "-c", KILLED, json.dumps(own_demo.options)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert told.stdout == "told of it, (5, 20000)\n", told.stderr


def test_hugging_face_datasets_reads_parquet(
    own_demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUIDPY_PATH", str(Path(own_demo.options["file"]).parent))
    monkeypatch.setenv("FLUIDPY_CACHE_DIR", own_demo.options["cache_dir"])
    monkeypatch.setenv("FLUIDPY_RUNTIME_DIR", own_demo.options["runtime_dir"])
    datasets: Any = pytest.importorskip("datasets")
    import pandas as pd

    frame = pd.DataFrame({"number": range(1000)})
    frame.to_parquet(own_demo.source / "table.parquet")
    loaded = datasets.load_dataset(
        "parquet",
        data_files="fluid://demo/table.parquet",
        split="train",
        cache_dir=str(own_demo.source.parent / "datasets"),
    )
    assert loaded["number"][:] == list(range(1000))
    streamed = datasets.load_dataset(
        "parquet",
        data_files="fluid://demo/table.parquet",
        split="train",
        streaming=True,
        cache_dir=str(own_demo.source.parent / "datasets"),
    )
    assert sum(row["number"] for row in streamed) == sum(range(1000))
