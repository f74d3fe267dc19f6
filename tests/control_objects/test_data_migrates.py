"""DataMigrates carried out: edits, failures of one, one at a time, what does not answer."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fluidpy.api.document import load_valid_documents
from fluidpy.api.operations import DataMigrate
from fluidpy.api.serialisation import to_dict
from fluidpy.api.texts import YamlText
from fluidpy.control.data_migrate import Refusal
from fluidpy.control.data_migrates import DATA_MIGRATES, DataMigrates
from fluidpy.control.dataset_status import Trouble
from fluidpy.control.event_log import EventLog
from fluidpy.control.folder_looks import FolderLooks
from fluidpy.control.migration_ends import MigrationEnds
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.runtime_keeper import Assignment
from fluidpy.runtime.driver import Command, Desired, LoadOutcome
from fluidpy.runtime.migration import Copied, ExternalEnd, MigratingDriver, MigrationEnd
from fluidpy.settings import Settings
from tests.control_objects.objects import dataset
from tests.control_runtimes.keepers import ToldDriver, place, until


class CopyingDriver(ToldDriver):
    """Copies by shell commands: the source's address is the script."""

    def __init__(self) -> None:
        super().__init__(Desired())
        self.sources: list[str] = []
        self.failures: list[Exception] = []
        """What `migrated` raises."""

    def missing(self) -> str:
        return ""

    def load_with(
        self, plan: Any, paths: Sequence[str], options: Mapping[str, str]
    ) -> tuple[Command, ...]:
        return ()

    def loaded(self, plan: Any, outputs: Sequence[str]) -> LoadOutcome:
        return LoadOutcome(0, 0, 0)

    def migrate(
        self, source: MigrationEnd, destination: MigrationEnd, options: Mapping[str, str]
    ) -> Command:
        assert isinstance(source, ExternalEnd)
        self.sources.append(source.url)
        return Command("a copy", ("/bin/sh", "-c", options.get("script", "exit 0")))

    def figures_at(self, line: str) -> str:
        return ""

    def figures(self, text: str) -> Copied:
        return Copied()

    def migrated(self, output: str) -> Copied:
        if self.failures:
            raise self.failures[-1]
        return Copied(found=1, done=1, bytes=1)


class Plane:
    """The part of a control plane that carries migrations out."""

    def __init__(self, root: Path, folders: FolderLooks | None = None) -> None:
        self.root, self.driver = root, CopyingDriver()
        self.store = ObjectStore(root / "objects")
        self._settings = Settings(root / "cache", root / "run", root / "state")
        self.trouble: Trouble | None = None
        self.ends = MigrationEnds(
            self._runtime_of,
            self._stored,
            self._settings,
            folders,
            trouble_of=lambda _: self.trouble,
        )
        self.migrates = DataMigrates(self.store, self.ends, EventLog(self.store))
        self._secrets = ""
        self.declare_dataset()

    def _runtime_of(self, dataset: str) -> Assignment | None:
        return None if self.trouble is not None else Assignment(self.driver, None, place(self.root))

    def _stored(self) -> list[Any]:
        return list(load_valid_documents(YamlText(self._secrets, "s")).objects)

    def declare_dataset(self) -> None:
        document = to_dict(dataset())
        document["metadata"] = {"name": "pets", "namespace": "default", "finalizers": ["wait"]}
        key = ObjectKey("datasets", "default", "pets")
        self.store.create(key, document)
        self.store.set_status(key, {"phase": "Bound"})

    def declare_secret(self) -> None:
        self._secrets = (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: hush}\n"
        )

    def document(self, name: str, script: str = "exit 0", **source: Any) -> dict[str, Any]:
        external = {"uri": "minio://host/b/", **source}
        return {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "DataMigrate",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "from": {"externalStorage": external},
                "to": {"dataset": {"name": "pets", "namespace": "default"}},
                "options": {"script": script},
            },
        }

    def migrate(self, name: str = "in", script: str = "exit 0", **source: Any) -> ObjectKey:
        key = ObjectKey(DATA_MIGRATES, "default", name)
        self.store.create(key, self.document(name, script, **source))
        return key

    def phase(self, key: ObjectKey) -> str:
        """After another look."""
        self.migrates.look()
        found: str = self.store.get(key).get("status", {}).get("phase", "")
        return found

    async def ended(self, key: ObjectKey) -> str:
        await until(lambda: self.phase(key) in ("Complete", "Failed"))
        return self.phase(key)

    def said(self) -> list[str]:
        return [event["message"] for event in self.store.list_objects("events")]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    await plane.migrates.close()
    plane.store.close()


def test_the_driver_of_these_tests_migrates() -> None:
    assert isinstance(CopyingDriver(), MigratingDriver)


async def test_an_edit_while_it_runs_is_carried_out(plane: Plane) -> None:
    first, second = plane.root / "first", plane.root / "second"
    key = plane.migrate(script=f"touch {first}; sleep 1000")
    await until(lambda: plane.phase(key) == "Executing" and first.exists())
    plane.store.replace(key, plane.document("in", f"touch {second}"))
    assert await plane.ended(key) == "Complete"
    assert second.exists()


async def test_another_object_of_the_name_is_carried_out(plane: Plane) -> None:
    first, second = plane.root / "first", plane.root / "second"
    key = plane.migrate(script=f"touch {first}; sleep 1000")
    await until(lambda: plane.phase(key) == "Executing" and first.exists())
    plane.store.delete(key)
    plane.migrate(script=f"touch {second}")
    assert await plane.ended(key) == "Complete"
    assert second.exists()


async def test_one_at_a_time_fills_a_dataset(plane: Plane) -> None:
    go = plane.root / "go"
    first = plane.migrate("a", f"until test -e {go}; do sleep 0.02; done")
    second = plane.migrate("b", f"test -e {go}")
    assert (plane.phase(first), plane.phase(second)) == ("Executing", "Pending")
    assert any("waits for the DataMigrate a" in one for one in plane.said())
    assert (plane.phase(first), plane.phase(second)) == ("Executing", "Pending")
    go.touch()
    assert await plane.ended(first) == "Complete"
    assert await plane.ended(second) == "Complete"


async def test_what_was_under_way_goes_on_before_others_begin(plane: Plane) -> None:
    first, second = plane.migrate("a"), plane.migrate("b", "sleep 1000")
    plane.store.set_status(second, {"phase": "Executing"})
    assert (plane.phase(first), plane.phase(second)) == ("Pending", "Executing")


async def test_two_that_were_under_way_do_not_wait_for_each_other(plane: Plane) -> None:
    keys = [plane.migrate("a"), plane.migrate("b")]
    for key in keys:
        plane.store.set_status(key, {"phase": "Executing"})
    assert [await plane.ended(key) for key in keys] == ["Complete", "Complete"]


async def test_it_is_stopped_when_its_dataset_is_deleted(plane: Plane) -> None:
    key = plane.migrate(script="sleep 1000")
    await until(lambda: plane.phase(key) == "Executing")
    plane.store.delete(ObjectKey("datasets", "default", "pets"))
    await until(lambda: plane.phase(key) == "Pending")
    assert plane.migrates.running() == {}


async def test_a_failure_that_nobody_foresaw_ends_it_and_is_logged(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.driver.failures = [KeyError("figures")]
    key = plane.migrate()
    assert await plane.ended(key) == "Failed"
    message = plane.store.get(key)["status"]["conditions"][0]["message"]
    assert "KeyError: 'figures'" in message
    assert "Traceback" in caplog.text


async def test_a_secret_that_is_missing_for_a_moment_is_waited_for(plane: Plane) -> None:
    reference = {"secretKeyRef": {"name": "s", "key": "key"}}
    key = plane.migrate(encryptOptions=[{"name": "secret-key", "valueFrom": reference}])
    assert plane.phase(key) == "Pending"
    assert any("no Secret 's'" in one for one in plane.said())
    plane.declare_secret()
    assert await plane.ended(key) == "Complete"


async def test_a_dataset_that_cannot_be_resolved_just_now_is_waited_for(plane: Plane) -> None:
    plane.trouble = Trouble("DatasetInvalid", "no Secret 'jfs' is known")
    key = plane.migrate()
    assert plane.phase(key) == "Pending"
    assert any("Dataset pets: no Secret 'jfs' is known" in one for one in plane.said())
    plane.trouble = None
    assert await plane.ended(key) == "Complete"


async def test_what_fails_at_one_does_not_keep_others_from_going_on(
    plane: Plane, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = plane.ends.command

    def fails(migrate: DataMigrate) -> tuple[MigratingDriver, Command] | Refusal:
        if migrate.name == "a":
            raise MemoryError
        return command(migrate)

    monkeypatch.setattr(plane.ends, "command", fails)
    plane.migrate("a")
    other = plane.migrate("b")
    assert await plane.ended(other) == "Complete"
    assert "the DataMigrate a is not carried out" in caplog.text


async def test_a_directory_whose_server_is_gone_is_waited_for(tmp_path: Path) -> None:
    gone = True

    def look(path: Path) -> bool:
        if gone:
            raise OSError(107, "Transport endpoint is not connected")
        return True

    plane = Plane(tmp_path, FolderLooks(look))
    key = plane.migrate(uri="local:///mnt/dead")
    assert plane.phase(key) == "Pending"
    assert any("/mnt/dead cannot be looked at: Transport" in one for one in plane.said())
    gone = False
    assert await plane.ended(key) == "Complete"
    assert plane.driver.sources[-1] == "file:///mnt/dead/"
    await plane.migrates.close()
    plane.store.close()


async def test_a_directory_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    answers, looks = threading.Event(), []

    def look(path: Path) -> bool:
        looks.append(path)
        return answers.wait(60)

    plane = Plane(tmp_path, FolderLooks(look))
    key = plane.migrate(uri="local:///mnt/hangs")
    assert [plane.phase(key) for _ in range(3)] == ["Pending"] * 3
    assert any("/mnt/hangs does not answer" in one for one in plane.said())
    assert len(looks) == 1, "one thread waits, not one a look"
    answers.set()
    assert await plane.ended(key) == "Complete"
    await plane.migrates.close()
    plane.store.close()
