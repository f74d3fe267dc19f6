"""What a Dataset says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.conditions import DatasetCondition
from fluidpy.api.dataset import Dataset, DatasetStatus
from fluidpy.control.conditions import find
from fluidpy.control.dataset_status import (
    GRACE_SECONDS,
    IN_USE,
    READ_ONLY,
    RUNS_AS_BEFORE,
    DatasetFacts,
    Trouble,
    dataset_status,
    next_phase,
)
from fluidpy.control.observed import SourceTotals
from tests.control_objects.objects import MIB, NOW, RUNTIME, as_stored, dataset, share

WHOLE = SourceTotals(3, 200 * MIB, complete=True)
BOUND = DatasetFacts(
    RUNTIME, (share(cached=50 * MIB, totals=WHOLE), share("worker-1")), served_generation=3
)


def ready(status: DatasetStatus) -> DatasetCondition:
    found = find(status.conditions, "Ready")
    assert found is not None
    return found


def after(one: Dataset, facts: DatasetFacts, now: float = NOW) -> Dataset:
    return as_stored(one.model_copy(update={"status": dataset_status(one, facts, now)}))


def test_a_new_dataset_is_not_bound_and_says_why() -> None:
    status = dataset_status(dataset(), DatasetFacts(None), NOW)
    assert status.phase == "NotBound"
    assert (ready(status).status, ready(status).reason) == ("False", "RuntimeNotFound")
    assert status.ufs_total is None
    assert status.cache_states == {}


def test_a_bound_dataset_shows_fluids_columns() -> None:
    status = after(dataset(), BOUND).status
    assert (status.phase, status.ufs_total, status.file_num) == ("Bound", "200.00MiB", "3")
    assert status.cache_states["cached"] == "50.00MiB"
    assert status.cache_states["cachedPercentage"] == "25.0%"
    assert status.cache_states["cacheCapacity"] == "2.00GiB"
    assert ready(status).message == "the Dataset can be read; 2 of 2 workers serve it"
    assert ready(status).observed_generation == status.observed_generation == 3
    assert status.runtimes == [RUNTIME]


def test_sizes_are_being_calculated_until_the_source_is_listed_as_a_whole() -> None:
    partly = share(cached=MIB, totals=SourceTotals(2, 2 * MIB, complete=False))
    status = dataset_status(dataset(), replace(BOUND, shares=(partly,)), NOW)
    assert (status.ufs_total, status.file_num) == ("[Calculating]", "[Calculating]")
    assert status.cache_states["cachedPercentage"] == ""


def test_one_ready_worker_of_several_is_enough() -> None:
    facts = replace(BOUND, shares=(share(), share("worker-1", ready=False)))
    status = dataset_status(dataset(), facts, NOW)
    assert status.phase == "Bound"
    assert "1 of 2 workers" in str(ready(status).message)


def test_an_edit_is_updating_until_the_workers_serve_it() -> None:
    bound = after(dataset(), BOUND)
    edited = bound.model_copy(
        update={"metadata": bound.metadata.model_copy(update={"generation": 4})}
    )
    updating = after(edited, BOUND)
    assert updating.status.phase == "Updating"
    assert ready(updating.status).status == "True"
    done = after(updating, replace(BOUND, served_generation=4))
    assert done.status.phase == "Bound"
    updated = find(done.status.conditions, "Updating")
    assert updated is not None
    assert updated.status == "False"


def test_workers_that_restart_do_not_make_it_fail_at_once() -> None:
    bound = after(dataset(), BOUND)
    away = replace(BOUND, shares=(share(ready=False),), unready_seconds=GRACE_SECONDS / 2)
    kept = after(bound, away)
    assert (kept.status.phase, kept.status.ufs_total) == ("Bound", "200.00MiB")
    assert kept.status.cache_states == bound.status.cache_states
    assert ready(kept.status).status == "False"
    failed = after(kept, replace(away, unready_seconds=GRACE_SECONDS * 2))
    assert failed.status.phase == "Failed"
    assert after(failed, BOUND).status.phase == "Bound"


def test_a_source_that_refuses_is_named() -> None:
    refused = Trouble("SourceAccess", "s3://bucket refused the key")
    status = dataset_status(dataset(), DatasetFacts(RUNTIME, trouble=refused), NOW)
    assert status.phase == "Failed"
    assert ready(status).message == "s3://bucket refused the key"


def test_a_passing_trouble_is_told_and_waited_for() -> None:
    passing = Trouble("WorkersNotReady", "worker-0 is being started", lasting=False)
    status = dataset_status(dataset(), DatasetFacts(RUNTIME, trouble=passing), NOW)
    assert status.phase == "NotBound"
    assert ready(status).message == "worker-0 is being started"


def test_deletion_says_by_whom_it_is_held_up() -> None:
    bound = after(dataset(), BOUND)
    doomed = bound.model_copy(
        update={"metadata": bound.metadata.model_copy(
            update={"deletion_timestamp": "2027-01-15T08:00:00Z"})}
    )  # fmt: skip
    waiting = after(doomed, replace(BOUND, users=("mount /mnt/pets", "process 77 (python)")))
    found = find(waiting.status.conditions, IN_USE)
    assert found is not None
    assert str(found.message).endswith("used by mount /mnt/pets, process 77 (python)")
    assert find(after(waiting, BOUND).status.conditions, IN_USE) is None


def test_deletion_says_why_the_runtime_does_not_end() -> None:
    bound = after(dataset(), BOUND)
    metadata = bound.metadata.model_copy(update={"deletion_timestamp": "2027-01-15T08:00:00Z"})
    deleted = bound.model_copy(update={"metadata": metadata})
    told = find(
        dataset_status(deleted, replace(BOUND, not_ended="the store is busy"), NOW).conditions,
        IN_USE,
    )
    assert told is not None
    assert (told.reason, told.status) == ("RuntimeNotEnded", "True")
    assert "the store is busy" in str(told.message)
    assert find(dataset_status(deleted, BOUND, NOW).conditions, IN_USE) is None


def test_a_runtime_edited_to_what_no_worker_takes_up_is_told_while_reads_go_on() -> None:
    trouble = Trouble("CacheDirectory", "other cache directories take effect at the next start")
    status = dataset_status(dataset(), replace(BOUND, trouble=trouble), NOW)
    assert (status.phase, ready(status).status) == ("Bound", "True")
    assert str(ready(status).message) == (
        "the Dataset can be read; 2 of 2 workers serve it; not all of them as it is declared now: "
        "other cache directories take effect at the next start"
    )


def test_a_runtime_that_runs_on_as_before_is_told_and_why() -> None:
    trouble = Trouble("SecretNotFound", "the Secret keys is missing")
    facts = replace(BOUND, trouble=trouble, runs_as_before=True)
    one = after(dataset(), facts)
    told = find(one.status.conditions, RUNS_AS_BEFORE)
    assert told is not None
    assert told.reason == "SecretNotFound"
    assert str(told.message).endswith("as it was declared before: the Secret keys is missing")
    assert find(after(one, BOUND).status.conditions, RUNS_AS_BEFORE) is None


def test_writes_that_were_asked_for_are_answered_by_a_condition() -> None:
    one = dataset()
    one.spec.access_modes = ["ReadWriteMany"]
    found = find(dataset_status(one, BOUND, NOW).conditions, READ_ONLY)
    assert found is not None
    assert found.status == "True"


def test_running_operations_and_references_are_listed() -> None:
    facts = replace(BOUND, operations={"DataLoad": ("a", "b")}, referred_by=("other/cats",))
    status = dataset_status(dataset(), facts, NOW)
    assert status.operation_ref == {"DataLoad": "a,b"}
    assert status.dataset_ref == ["other/cats"]


def test_options_of_mounts_do_not_come_back_in_the_status() -> None:
    one = dataset()
    status = dataset_status(one, replace(BOUND, served_mounts=tuple(one.spec.mounts)), NOW)
    assert [mount.mount_point for mount in status.mounts] == ["s3://bucket/pets"]
    assert "hush" not in str(status.model_dump())


def test_workers_that_are_back_and_do_not_serve_it_yet_are_not_said_to() -> None:
    bound = after(dataset(), BOUND)
    back = after(bound, replace(BOUND, served_generation=None))
    assert (back.status.phase, ready(back.status).status) == ("Bound", "False")


@pytest.mark.parametrize("facts", [DatasetFacts(None), BOUND, replace(BOUND, users=("x",))])
def test_looking_again_changes_nothing(facts: DatasetFacts) -> None:
    once = after(dataset(), facts, NOW)
    again = after(once, facts, NOW + 3600)
    assert again.status == once.status


shares_of = st.lists(
    st.builds(
        share,
        st.sampled_from(["worker-0", "worker-1"]),
        cached=st.integers(0, 1 << 50),
        totals=st.none()
        | st.builds(SourceTotals, st.integers(0, 9), st.integers(0, 1 << 50), st.booleans()),
        ready=st.booleans(),
    ),
    max_size=3,
).map(tuple)
facts_of = st.builds(
    DatasetFacts,
    st.sampled_from([None, RUNTIME]),
    shares_of,
    served_generation=st.sampled_from([None, 2, 3]),
    unready_seconds=st.floats(0, 100),
    trouble=st.none() | st.builds(Trouble, st.just("X"), st.text(max_size=9), st.booleans()),
    users=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(st.lists(facts_of, min_size=1, max_size=6))
def test_whatever_is_seen_the_status_is_valid_and_consistent(history: list[DatasetFacts]) -> None:
    one = dataset()
    for step, facts in enumerate(history):
        phase = next_phase(one, facts)
        one = after(one, facts, NOW + step)
        status = one.status
        assert status.phase == phase
        kinds = [condition.type for condition in status.conditions]
        assert len(kinds) == len(set(kinds))
        assert kinds[0] == "Ready"
        assert all(c.reason and c.message is not None for c in status.conditions)
        served = facts.served_generation is not None
        can_read = served and any(each.ready for each in facts.shares)
        assert (ready(status).status == "True") <= can_read
        if phase == "Bound" and can_read:
            assert facts.served_generation == 3
        assert len(status.cache_states) in (0, 12)
        if phase == "NotBound":
            assert status.cache_states == {}
