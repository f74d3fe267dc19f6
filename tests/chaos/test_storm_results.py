"""How a storm is judged, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.bed import limit_on
from tests.chaos.latency import Latencies, worst
from tests.chaos.storm_results import VARIABLE, keep


def test_a_quiet_machine_excuses_nothing() -> None:
    assert limit_on(1.0, 0.0) == limit_on(1.0, 0.099) == 1.0
    assert limit_on(1.0, 0.2) == 2.0


def test_the_longest_of_all_readers_counts() -> None:
    readers = [Latencies(), Latencies()]
    readers[0].add("read", "a", 0.5)
    readers[1].add("read", "b", 1.5)
    readers[1].add("member", "c", 0.25)
    found = worst(reader.report() for reader in readers)
    assert found == {"read": (1.5, "b"), "member": (0.25, "c")}


def test_results_are_kept_where_asked_beside_those_of_other_storms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert keep("kills", "plain", {"seed": 1}) is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "results"))
    keep("kills", "plain", {"seed": 1})
    keep("upgrades", "plain", {"seed": 2})
    path = keep("kills", "plain", {"seed": 3})
    assert path is not None
    assert path == tmp_path / "results/storm-plain.json"
    document = json.loads(path.read_text())
    assert document["read_mode"] == "plain"
    assert {name: storm["seed"] for name, storm in document["storms"].items()} == {
        "kills": 3,
        "upgrades": 2,
    }
    assert document["storms"]["kills"]["machine"]["kernel"]
    assert list(path.parent.iterdir()) == [path]
