"""DataLoad: phases, shares of the workers, deaths, scaling, failures, chains, the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.operations import DataLoad
from fluidpy.control.data_load import (
    DataLoadFacts,
    LoadDecision,
    LoadStep,
    MemberRun,
    reconcile,
    running_on,
    steps_of,
)
from fluidpy.control.load_progress import (
    FAILURES_KEPT,
    MemberCounts,
    Sample,
    bytes_per_second,
    progress,
    with_sample,
)
from fluidpy.control.unserved_operations import refuse
from tests.control_objects.objects import NOW, as_stored, data_load, dataset, from_yaml, with_status

BOUND = dataset(phase="Bound")
BOTH = frozenset({"worker-0", "worker-1"})
HALF = MemberCounts(files=2, bytes=20, done_files=2, done_bytes=20)


def facts(**changes: object) -> DataLoadFacts:
    usual = DataLoadFacts(BOUND, pool=BOTH, ready=BOTH)
    return replace(usual, **changes)  # type: ignore[arg-type]


def runs(
    *, finished: bool = False, pool: frozenset[str] = BOTH, counts: MemberCounts = HALF
) -> Mapping[str, MemberRun]:
    return {name: MemberRun(name, pool, counts, finished=finished) for name in pool}


def after(load: DataLoad, decision: LoadDecision) -> DataLoad:
    return as_stored(load.model_copy(update={"status": decision.status}))


def test_it_starts_every_worker_of_a_bound_dataset() -> None:
    decision = reconcile(data_load(), facts(), NOW)
    assert decision.status.phase == "Executing"
    assert decision.status.duration == "Unfinished"
    assert decision.start == ("worker-0", "worker-1")
    assert [event.reason for event in decision.events] == ["DataLoadJobStarted"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": None}, "TargetDatasetNotFound"),
        ({"dataset": dataset(phase="NotBound")}, "TargetDatasetNotReady"),
        ({"dataset": dataset()}, "TargetDatasetNotReady"),
        ({"dataset": dataset(phase="DataMigrating")}, "DataOperationWaiting"),
        ({"pool": frozenset(), "ready": frozenset()}, "RuntimeNotReady"),
    ],
)
def test_it_waits_for_its_dataset_and_says_so(changes: dict[str, object], reason: str) -> None:
    decision = reconcile(data_load(), facts(**changes), NOW)
    assert decision.status.phase == "Pending"
    assert decision.start == ()
    assert [event.reason for event in decision.events] == [reason]


def test_a_chain_waits_for_the_operation_before() -> None:
    load = data_load("  runAfter: {kind: DataLoad, name: first}\n")
    for phase in (None, "Pending", "Executing", "Failed"):
        decision = reconcile(load, facts(predecessor=phase), NOW)
        assert decision.status.phase == "Pending"
        assert decision.status.waiting_for is not None
        assert decision.status.waiting_for.operation_complete is True
    assert "which failed" in reconcile(load, facts(predecessor="Failed"), NOW).events[0].message
    started = reconcile(after(load, decision), facts(predecessor="Complete"), NOW)
    assert started.status.phase == "Executing"
    assert started.status.waiting_for is None


def test_all_shares_finished_is_complete() -> None:
    load = after(data_load(), reconcile(data_load(), facts(), NOW))
    decision = reconcile(load, facts(runs=runs(finished=True)), NOW)
    assert decision.status.phase == "Complete"
    assert decision.status.duration == "1m30s"
    (condition,) = decision.status.conditions
    assert (condition.type, condition.status) == ("Complete", "True")
    assert condition.message == "4 files, 40 bytes are in the cache"
    assert decision.status.progress is not None
    assert decision.status.progress.bytes == decision.status.progress.bytes_total == 40


def test_one_share_is_not_complete() -> None:
    one = {"worker-0": MemberRun("worker-0", BOTH, HALF, finished=True)}
    decision = reconcile(data_load(), facts(runs=one), NOW)
    assert decision.status.phase == "Executing"
    assert decision.start == ("worker-1",)


def test_a_worker_that_died_is_asked_again_when_it_is_ready() -> None:
    load = after(data_load(), reconcile(data_load(), facts(), NOW))
    died = dict(runs(finished=True))
    died["worker-1"] = MemberRun("worker-1", BOTH, HALF, error="the worker ended")
    away = reconcile(load, facts(runs=died, ready=frozenset({"worker-0"})), NOW)
    assert (away.status.phase, away.start) == ("Executing", ())
    back = reconcile(load, facts(runs=died), NOW)
    assert back.start == ("worker-1",)
    assert [event.reason for event in back.events] == ["DataLoadResumed"]


def test_when_workers_come_or_go_owners_change_and_all_are_asked_again() -> None:
    three = BOTH | {"worker-2"}
    decision = reconcile(data_load(), facts(pool=three, ready=three, runs=runs(finished=True)), NOW)
    assert decision.status.phase == "Executing"
    assert decision.start == ("worker-0", "worker-1", "worker-2")
    assert set(decision.stop) == BOTH


def test_what_could_not_be_read_is_named_and_the_load_fails() -> None:
    broken = MemberCounts(2, 20, 1, 10, failed=1, failures=(("/a/b", "no such key"),))
    decision = reconcile(data_load(), facts(runs=runs(finished=True, counts=broken)), NOW)
    assert decision.status.phase == "Failed"
    assert decision.status.conditions[0].message == (
        "2 of 4 files could not be loaded: /a/b: no such key; /a/b: no such key"
    )
    assert decision.status.progress is not None
    assert decision.status.progress.failures[0].path == "/a/b"
    assert [event.type for event in decision.events] == ["Warning"]


def test_files_that_are_not_there_at_the_end_are_no_success() -> None:
    short = MemberCounts(files=3, bytes=30, done_files=2, done_bytes=20)
    decision = reconcile(data_load(), facts(runs=runs(finished=True, counts=short)), NOW)
    assert decision.status.phase == "Failed"
    assert "2 of 6 files are not in the cache" in str(decision.status.conditions[0].message)


def test_a_listing_needs_no_bytes() -> None:
    load = data_load("  options: {loadMetadataOnly: 'true'}\n")
    listed = MemberCounts(files=3, bytes=30)
    decision = reconcile(load, facts(runs=runs(finished=True, counts=listed)), NOW)
    assert decision.status.phase == "Complete"


def test_targets_are_grouped_by_copies() -> None:
    load = data_load(
        "  target: [{path: /a, replicas: 2}, {path: /b}, {path: /c, replicas: -1}, "
        "{path: /d, replicas: 2}]\n"
    )
    assert steps_of(load) == (LoadStep(("/b", "/c"), 1), LoadStep(("/a", "/d"), 2))
    assert steps_of(data_load()) == (LoadStep(("/",), 1),)


def test_it_is_deleted_when_its_time_has_passed() -> None:
    load = data_load("  ttlSecondsAfterFinished: 60\n")
    ended = reconcile(load, facts(runs=runs(finished=True)), NOW)
    assert ended.again_in == 60
    load = after(load, ended)
    early = reconcile(load, facts(), NOW + 20)
    assert (early.delete, early.again_in) == (False, 40)
    assert reconcile(load, facts(), NOW + 60).delete


def test_without_a_time_it_stays() -> None:
    load = after(data_load(), reconcile(data_load(), facts(runs=runs(finished=True)), NOW))
    decision = reconcile(load, facts(), NOW + 1e6)
    assert (decision.delete, decision.again_in, decision.status) == (False, None, load.status)


def test_a_dataset_that_is_away_for_a_moment_ends_no_load() -> None:
    load = after(data_load(), reconcile(data_load(), facts(), NOW))
    assert reconcile(load, facts(dataset=dataset(phase="Failed")), NOW).status.phase == "Executing"


def test_a_migration_that_begins_later_ends_no_load() -> None:
    load = after(data_load(), reconcile(data_load(), facts(), NOW))
    assert reconcile(load, facts(dataset=dataset(phase="DataMigrating")), NOW).start


def test_what_is_deleted_is_stopped() -> None:
    load = data_load()
    load.metadata.deletion_timestamp = "2027-01-15T08:00:00Z"
    decision = reconcile(load, facts(runs=runs()), NOW)
    assert set(decision.stop) == BOTH
    assert decision.start == ()


def test_loads_under_way_are_known_by_their_dataset() -> None:
    loads = [with_status(data_load(name=name), phase="Executing") for name in ("b", "a")]
    loads.append(with_status(data_load(name="c"), phase="Complete"))
    assert running_on(loads) == {("default", "pets"): ("a", "b")}


def test_rate_and_time_left() -> None:
    samples: tuple[Sample, ...] = ()
    for second in range(30):
        samples = with_sample(samples, Sample(second, 100 * second))
    assert len(samples) < 15
    assert bytes_per_second(samples) == 100
    found = progress(MemberCounts(9, 4000, 3, 2900), samples)
    assert (found.bytes_per_second, found.eta_seconds) == (100, 11)
    assert with_sample(samples, Sample(30, 5)) == (Sample(30, 5),)


def test_failures_in_the_status_are_bounded() -> None:
    answer = {"failed": 900, "failures": [["/x", "y" * 9000]] * 900}
    found = progress(MemberCounts.from_answer(answer), ())
    assert (found.failed, len(found.failures)) == (900, FAILURES_KEPT)
    assert len(found.failures[0].message) < 1000


def test_what_never_happens_here_is_refused() -> None:
    from fluidpy.api.document import load_documents
    from fluidpy.api.texts import YamlText

    text = """
apiVersion: data.fluid.io/v1alpha1
kind: DataLoad
metadata: {name: nightly}
spec: {dataset: {name: pets, namespace: default}, policy: Cron, schedule: "0 2 * * *"}
---
apiVersion: data.fluid.io/v1alpha1
kind: DataBackup
metadata: {name: save}
spec: {dataset: pets, backupPath: "local:///backup"}
---
apiVersion: data.fluid.io/v1alpha1
kind: DataLoad
metadata: {name: once}
spec: {dataset: {name: pets, namespace: default}}
"""
    objects = load_documents(YamlText(text, "ops.yaml")).objects
    found = [problem for one in objects for problem in refuse(one)]
    assert [(one.field_path, one.line) for one in found] == [("spec.policy", 5), ("kind", 8)]
    assert "Cron is not carried out" in str(found[0])
    assert "write Once" in str(found[0])


@dataclass
class Cluster:
    """Workers that load what they own; what is cached stays cached, whoever dies."""

    files: int
    pool: frozenset[str]
    down: set[str] = field(default_factory=set)
    cached: dict[str, set[int]] = field(default_factory=dict)
    runs: dict[str, MemberRun] = field(default_factory=dict)

    def owned(self, member: str) -> set[int]:
        names = sorted(self.pool)
        return {number for number in range(self.files) if names[number % len(names)] == member}

    def step(self, member: str) -> None:
        """One more file of a run, or its end."""
        run = self.runs.get(member)
        if run is None or run.finished or run.error or member in self.down:
            return
        own, have = self.owned(member), self.cached.setdefault(member, set())
        if run.pool != self.pool:
            return
        left = sorted(own - have)
        have.update(left[:1])
        done = len(own & have)
        counts = MemberCounts(len(own), 10 * len(own), done, 10 * done)
        self.runs[member] = replace(run, counts=counts, finished=len(left) <= 1)

    def kill(self, member: str) -> None:
        self.down.add(member)
        run = self.runs.get(member)
        if run is not None and not run.finished:
            self.runs[member] = replace(run, error="the worker ended")


actions = st.lists(
    st.tuples(
        st.sampled_from(["step", "step", "step", "kill", "start", "scale", "restart"]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(actions, st.integers(0, 12))
def test_whatever_happens_complete_means_that_all_is_cached(
    happenings: list[tuple[str, int]], files: int
) -> None:
    load, cluster, now = data_load(), Cluster(files, BOTH), NOW
    happenings = [*happenings, *[("start", n) for n in range(4)], *[("step", n % 4)
                  for n in range(4 * (files + 2))]]  # fmt: skip
    for what, number in happenings:
        member = f"worker-{number}"
        if what == "step":
            cluster.step(member)
        elif what == "kill":
            cluster.kill(member)
        elif what == "start":
            cluster.down.discard(member)
        elif what == "scale":
            cluster.pool = frozenset(f"worker-{n}" for n in range(number + 1))
        elif what == "restart":  # the control plane's own death: it remembers no run
            cluster.runs.clear()
        now += 1
        around = DataLoadFacts(BOUND, cluster.pool, cluster.pool - cluster.down, dict(cluster.runs))
        decision = reconcile(load, around, now)
        for name in decision.stop:
            cluster.runs.pop(name, None)
        for name in decision.start:
            cluster.runs[name] = MemberRun(name, cluster.pool)
        load = after(load, decision)
        if load.status.phase == "Complete":
            assert all(
                cluster.owned(name) <= cluster.cached.get(name, set()) for name in cluster.pool
            )
            return
        assert load.status.phase == "Executing"
    raise AssertionError("it never came to an end")


def test_the_yaml_of_fluid_is_a_load() -> None:
    load = from_yaml(
        "apiVersion: data.fluid.io/v1alpha1\nkind: DataLoad\nmetadata: {name: spark}\n"
        "spec:\n  dataset: {name: pets, namespace: default}\n  loadMetadata: true\n"
        "  target:\n    - {path: /spark-2.4.8, replicas: 2}\n"
    )
    assert isinstance(load, DataLoad)
    assert steps_of(load) == (LoadStep(("/spark-2.4.8",), 2),)
