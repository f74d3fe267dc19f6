"""What a worker says is cached of each Dataset, though Datasets share a store."""

from __future__ import annotations

import time
from typing import Any

from fluidpy.storage.under_storage import MountSource
from tests.worker.conftest import Machine


def row_of(machine: Machine, key: str, **wanted: object) -> dict[str, Any]:
    """The Dataset's row of `status`, once it says what is wanted; counts are seconds old."""
    limit = time.monotonic() + 60
    while True:
        status = machine.sessions[0].connection.call("status", deadline=60.0)[0]
        row: dict[str, Any] = next(row for row in status["datasets"] if row["key"] == key)
        if all(row[name] == value for name, value in wanted.items()):
            return row
        assert time.monotonic() < limit, row
        time.sleep(0.05)


def test_each_dataset_counts_its_own_bytes(machine: Machine) -> None:
    for number in range(5):
        machine.write(f"a/{number}", b"x" * 70_000)
        machine.write(f"b/{number}", b"y" * 10_000)
    whole = machine.source()
    part = MountSource(f"{whole.url}/b", "m", whole.options)
    pets = machine.session(machine.definition("pets"))
    cats = machine.session(machine.definition("cats", source=part))
    assert pets.listdir("/")
    assert row_of(machine, "default/pets")["totals"]["complete"] is False
    machine.ask(pets, "load", paths=["/a"])
    machine.ask(cats, "load", paths=["/"])
    row_of(machine, "default/pets", cached_bytes=350_000)
    totals = {"files": 5, "bytes": 50_000, "complete": True}
    row_of(machine, "default/cats", cached_bytes=50_000, totals=totals)


def test_what_leaves_is_counted_no_more(machine: Machine) -> None:
    machine.write("a", b"x" * 70_000)
    machine.write("b", b"y" * 10_000)
    session = machine.session()
    machine.ask(session, "load", paths=["/"])
    row_of(machine, "default/data", cached_bytes=80_000)
    machine.ask(session, "evict", path="/a")
    row = row_of(machine, "default/data", cached_bytes=10_000)
    assert row["totals"] == {"files": 2, "bytes": 80_000, "complete": True}
    (tier,) = row["tiers"]
    assert 0 < tier["low"] < tier["high"] <= 1
    assert 10_000 <= tier["used_bytes"] <= tier["quota_bytes"]


def test_a_part_of_a_file_counts_as_a_part(machine: Machine) -> None:
    machine.write("a", b"x" * 65536 * 4)
    session = machine.session()
    assert session.read("a", 0, 10) == b"x" * 10
    row = row_of(machine, "default/data")
    limit = time.monotonic() + 60
    while not row["cached_bytes"] and time.monotonic() < limit:
        row = row_of(machine, "default/data")
    assert 65536 <= row["cached_bytes"] <= 65536 * 4
