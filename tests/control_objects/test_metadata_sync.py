"""Which sources are listed by themselves, and when again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.control.data_load import LoadStep, MemberRun
from fluidpy.control.demands import Wanted
from fluidpy.control.event_log import EventLog
from fluidpy.control.load_progress import MemberCounts
from fluidpy.control.load_runs import LoadRuns, WorkerAccess
from fluidpy.control.metadata_sync import AT_ONCE, PAUSES, MetadataSyncs
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.observed import SourceTotals
from fluidpy.control.pool_plan import Demand
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings
from tests.control_objects.objects import loaded_dataset

PARTLY = SourceTotals(0, 0, complete=False)
WHOLE = SourceTotals(3, 30, complete=True)


class Runs(LoadRuns):
    """Notes what is started, and ends it when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: dict[str, MemberRun] = {}
        self.started: list[str] = []

    def of(self, load: ObjectKey) -> dict[str, MemberRun]:
        run = self.under_way.get(load.name)
        return {} if run is None else {run.member: run}

    def start(
        self,
        load: ObjectKey,
        member: str,
        pool: frozenset[str],
        access: WorkerAccess,
        steps: object,
    ) -> None:
        assert steps == (LoadStep(("/",), 1, metadata_only=True, gently=True),)
        self.started.append(load.name)
        self.under_way[load.name] = MemberRun(member, pool)

    def forget(self, load: ObjectKey) -> None:
        self.under_way.pop(load.name, None)


class Bed:
    """Datasets `a`, `b`, … that one worker serves, and a clock."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(directory, directory)
        self.runs = Runs()
        self.totals: dict[str, SourceTotals | None] = {}
        self.wanted: dict[str, Wanted] = {}
        self.now = 0.0
        self.store = ObjectStore(directory / "objects")
        self.syncs = MetadataSyncs(
            self, self.totals.get, EventLog(self.store), clock=lambda: self.now, runs=self.runs
        )

    def add(self, name: str, **definition: float) -> None:
        key = f"default/{name}"
        one = DatasetDefinition(name, "default", (), **definition)  # type: ignore[arg-type]
        self.wanted[key] = Wanted(loaded_dataset(name), None, Demand(key, 1), one)
        self.totals[key] = PARTLY

    def look(self, *busy: str) -> list[str]:
        """What is started by a look."""
        before = len(self.runs.started)
        self.syncs.look(self.wanted, busy)
        return self.runs.started[before:]

    def end(self, name: str, *failures: str) -> None:
        counts = MemberCounts(failures=tuple(("/", text) for text in failures))
        run = self.runs.under_way[name]
        self.runs.under_way[name] = replace(run, finished=True, counts=counts)

    def members_of(self, dataset: str) -> frozenset[str]:
        return frozenset({"worker-0"})

    ready_members_of = members_of

    def access_to(self, dataset: str, member: str) -> WorkerAccess:
        return WorkerAccess(DatasetDefinition("a", "default", ()), self.settings)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.store.close()


def test_each_source_is_listed_once_and_few_at_a_time(bed: Bed) -> None:
    names = [f"d{number}" for number in range(AT_ONCE + 2)]
    for name in names:
        bed.add(name)
    assert bed.look() == names[:AT_ONCE]
    assert bed.look() == []
    bed.end("d0")
    bed.totals["default/d0"] = WHOLE
    assert bed.look() == [names[AT_ONCE]]
    bed.now = 1e6
    for name in names[1:]:
        bed.look()
        bed.end(name)
        bed.totals[f"default/{name}"] = WHOLE
    assert bed.look() == []
    assert bed.runs.started == names


def test_a_source_that_cannot_be_listed_is_left_alone_longer_and_longer(bed: Bed) -> None:
    bed.add("a")
    for pause in (*PAUSES, PAUSES[-1]):
        assert bed.look() == ["a"]
        bed.end("a", "the server has no index")
        assert bed.look() == []
        bed.now += pause - 0.1
        assert bed.look() == []
        bed.now += 0.2
    (event,) = bed.store.list_objects("events")
    assert event["reason"] == "MetadataSyncFailed"
    assert "the server has no index" in event["message"]


def test_an_edited_dataset_is_listed_anew(bed: Bed) -> None:
    bed.add("a")
    assert bed.look() == ["a"]
    bed.add("a", uid=5)
    assert bed.look() == ["a"], "what was under way is of the old definition"


def test_who_wants_none_is_served_or_loaded_already_is_not_listed(bed: Bed) -> None:
    bed.add("never", metadata_ttl_seconds=math.inf)
    bed.add("loading")
    bed.add("unserved")
    bed.totals["default/unserved"] = None
    bed.add("known")
    bed.totals["default/known"] = WHOLE
    assert bed.look("default/loading") == []
    assert bed.look() == ["loading"]


def test_a_dataset_that_goes_away_is_given_up(bed: Bed) -> None:
    bed.add("a")
    bed.look()
    bed.wanted.clear()
    bed.look()
    assert bed.runs.under_way == {}
