"""DataMigrate: phases, refusals, deaths, failures, chains, the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fluidpy.api.operations import DataMigrate
from fluidpy.control.data_migrate import (
    MigrateDecision,
    MigrateFacts,
    MigrationSeen,
    Refusal,
    migrating,
    reconcile,
)
from fluidpy.control.dataset_status import DatasetFacts, next_phase
from fluidpy.control.unserved_operations import refuse
from fluidpy.runtime.migration import Copied
from tests.control_objects.objects import (
    NOW,
    RUNTIME,
    as_stored,
    dataset,
    from_yaml,
    loaded_from_yaml,
    share,
)

BOUND = dataset(phase="Bound")
HALF = Copied(found=4, done=2, bytes=20)
TEXT = (
    "apiVersion: data.fluid.io/v1alpha1\nkind: DataMigrate\n"
    "metadata: {name: in, generation: 1, creationTimestamp: '2027-01-15T07:58:30Z'}\n"
    "spec:\n  from: {externalStorage: {uri: 's3://b/'}}\n"
    "  to: {dataset: {name: pets, namespace: default}}\n"
)


def migrate(spec: str = "") -> DataMigrate:
    found = from_yaml(TEXT + spec)
    assert isinstance(found, DataMigrate)
    return found


def facts(**changes: object) -> MigrateFacts:
    return replace(MigrateFacts((("pets", BOUND),)), **changes)  # type: ignore[arg-type]


def after(one: DataMigrate, decision: MigrateDecision) -> DataMigrate:
    return as_stored(one.model_copy(update={"status": decision.status}))


def ended(copied: Copied, error: str = "") -> MigrateDecision:
    run = MigrationSeen(copied, finished=True, error=error)
    return reconcile(migrate(), facts(run=run), NOW)


def test_it_starts_once_its_dataset_is_bound() -> None:
    decision = reconcile(migrate(), facts(), NOW)
    assert (decision.status.phase, decision.start) == ("Executing", True)
    assert [event.reason for event in decision.events] == ["DataMigrateJobStarted"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "TargetDatasetNotFound"),
        (dataset(phase="NotBound"), "TargetDatasetNotReady"),
        (dataset(), "TargetDatasetNotReady"),
    ],
)
def test_it_waits_for_its_datasets_and_says_so(found: object, reason: str) -> None:
    # What nothing serves yet is no refusal.
    unserved = Refusal("DataOperationNotSupport", "nothing serves it")
    decision = reconcile(migrate(), facts(datasets=(("pets", found),), refusal=unserved), NOW)
    assert (decision.status.phase, decision.start) == ("Pending", False)
    assert [event.reason for event in decision.events] == [reason]


def test_a_chain_waits_for_the_operation_before() -> None:
    one = migrate("  runAfter: {kind: DataLoad, name: first}\n")
    waiting = reconcile(one, facts(predecessor="Executing"), NOW)
    assert waiting.status.phase == "Pending"
    assert waiting.status.waiting_for is not None
    started = reconcile(after(one, waiting), facts(predecessor="Complete"), NOW)
    assert started.start
    assert started.status.waiting_for is None


def test_what_no_engine_can_do_fails_with_the_reason() -> None:
    why = Refusal("DataOperationNotSupport", "what serves the Dataset pets copies nothing")
    decision = reconcile(migrate(), facts(refusal=why), NOW)
    assert (decision.status.phase, decision.start) == ("Failed", False)
    assert decision.status.conditions[0].message == why.message
    assert [event.reason for event in decision.events] == ["DataOperationNotSupport"]


def test_progress_is_told_and_the_end_is_complete() -> None:
    decision = reconcile(migrate(), facts(run=MigrationSeen(HALF)), NOW)
    assert decision.status.phase == "Executing"
    assert decision.status.progress is not None
    assert (decision.status.progress.files, decision.status.progress.files_total) == (2, 4)
    done = ended(Copied(found=4, done=4, bytes=40))
    assert (done.status.phase, done.status.duration) == ("Complete", "1m30s")
    assert done.status.conditions[0].message == "4 objects, 40.00B, are in the destination"


def test_it_goes_on_while_its_dataset_is_away_for_a_moment() -> None:
    away = facts(datasets=(("pets", None),), run=MigrationSeen(HALF))
    assert reconcile(migrate(), away, NOW).status.phase == "Executing"


def test_after_a_death_of_the_control_plane_it_is_started_again() -> None:
    one = after(migrate(), reconcile(migrate(), facts(run=MigrationSeen(HALF)), NOW))
    decision = reconcile(one, facts(), NOW)
    assert decision.start
    assert [event.reason for event in decision.events] == ["DataMigrateResumed"]


def test_what_could_not_be_copied_is_named() -> None:
    broken = Copied(found=2, done=1, failed=1, failures=(("a/b", "no such key"),))
    decision = ended(broken, "1 object could not be copied")
    assert decision.status.phase == "Failed"
    message = "1 object could not be copied: a/b: no such key"
    assert decision.status.conditions[0].message == message
    assert decision.status.progress is not None
    assert decision.status.progress.failures[0].path == "a/b"


def test_a_source_with_nothing_in_it_is_no_success() -> None:
    assert "nothing was found" in (ended(Copied()).status.conditions[0].message or "")
    assert ended(Copied(excluded=3)).status.phase == "Complete"


def test_it_goes_when_its_time_has_come_and_stays_otherwise() -> None:
    done = MigrationSeen(Copied(found=1, done=1), finished=True)
    one = migrate("  ttlSecondsAfterFinished: 60\n")
    one = after(one, reconcile(one, facts(run=done), NOW))
    assert not reconcile(one, facts(), NOW + 59).delete
    assert reconcile(one, facts(), NOW + 61).delete
    stays = after(migrate(), reconcile(migrate(), facts(run=done), NOW))
    assert not reconcile(stays, facts(), NOW + 10**6).delete


def test_the_dataset_that_it_counts_for_is_migrating() -> None:
    one = after(migrate(), reconcile(migrate(), facts(), NOW))
    assert migrating([one, migrate()]) == {("default", "pets"): ("in",)}
    seen = DatasetFacts(RUNTIME, (share(),), served_generation=3)
    assert next_phase(BOUND, seen) == "Bound"
    under = replace(seen, operations={"DataMigrate": ("in",)})
    assert next_phase(BOUND, under) == "DataMigrating"


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("  policy: Cron\n  schedule: '0 2 * * *'\n", "write Once"),
        ("  runtimeType: alluxio\n", "alluxio carries out no DataMigrate"),
        ("  parallelism: 2\n  parallelOptions: {sshSecretName: s}\n", "the option threads"),
    ],
)
def test_what_is_never_carried_out_is_refused_beforehand(spec: str, word: str) -> None:
    (problem,) = refuse(loaded_from_yaml(TEXT + spec))
    assert word in f"{problem.message}; {problem.cure}"
    assert refuse(loaded_from_yaml(TEXT)) == []
