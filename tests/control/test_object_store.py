"""The object store: versions as Kubernetes gives them, and nothing lost by a crash."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fluidpy.control import object_store
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.errors import (
    ControlPlaneError,
    ObjectConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    WatchExpiredError,
)

KEY = ObjectKey("datasets", "default", "pets")


def document(name: str = "pets", **spec: Any) -> dict[str, Any]:
    return {"kind": "Dataset", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = ObjectStore(tmp_path / "objects")
    yield store
    store.close()


def test_a_database_that_another_program_has_locked_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "BUSY_SECONDS", 0.05)
    store = ObjectStore(tmp_path / "objects")
    store.create(KEY, document(a=1))
    backup = sqlite3.connect(tmp_path / "objects" / "cache.db", isolation_level=None)
    backup.execute("BEGIN IMMEDIATE")
    with pytest.raises(ControlPlaneError, match="database is locked"):
        store.replace(KEY, document(a=2))
    with pytest.raises(ControlPlaneError, match="database is locked"):
        store.delete(KEY)
    assert store.get(KEY)["spec"] == {"a": 1}
    backup.execute("ROLLBACK")
    backup.close()
    assert store.replace(KEY, document(a=2))["metadata"]["generation"] == 2
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs root")
def test_a_change_that_a_full_disk_does_not_take_changes_nothing_and_says_so(
    tmp_path: Path,
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", small], check=True)
    try:
        store = ObjectStore(small / "objects")
        store.create(KEY, document(a=1))
        with contextlib.suppress(OSError), open(small / "full", "wb", buffering=0) as full:
            while True:
                full.write(bytes(4096))
        with pytest.raises(ControlPlaneError, match="full"):
            store.replace(KEY, document(text="x" * 100_000))
        assert store.get(KEY)["spec"] == {"a": 1}
        (small / "full").unlink()
        store.replace(KEY, document(a=2))
        store.close()
        store = ObjectStore(small / "objects")
        assert store.get(KEY)["spec"] == {"a": 2}
        store.close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_generation_grows_with_the_spec_alone(store: ObjectStore) -> None:
    store.create(KEY, document(a=1))
    labelled = store.replace(
        KEY, {**document(a=1), "metadata": {"name": "pets", "labels": {"x": "y"}}}
    )
    seen = store.set_status(KEY, {"phase": "Bound"})
    changed = store.replace(KEY, document(a=2))
    generations = [one["metadata"]["generation"] for one in (labelled, seen, changed)]
    assert generations == [1, 1, 2]
    assert changed["status"] == {"phase": "Bound"}
    assert changed["metadata"]["uid"] == labelled["metadata"]["uid"]


def test_the_same_declaration_changes_nothing(store: ObjectStore) -> None:
    first = store.create(KEY, document(a=1))
    again = store.replace(KEY, document(a=1))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_stale_version_is_refused(store: ObjectStore) -> None:
    first = store.create(KEY, document(a=1))
    store.replace(KEY, document(a=2))
    with pytest.raises(ObjectConflictError, match="changed meanwhile"):
        store.replace(KEY, {**first, "spec": {"a": 3}})
    assert store.get(KEY)["spec"] == {"a": 2}


def test_an_object_with_finalizers_goes_when_the_last_one_has(store: ObjectStore) -> None:
    store.create(KEY, document(), finalizers=["clean"])
    assert "deletionTimestamp" in store.delete(KEY)["metadata"]
    with pytest.raises(ObjectConflictError, match="is being deleted"):
        store.replace(KEY, document(a=1))
    store.finalize(KEY, "clean")
    with pytest.raises(ObjectNotFoundError):
        store.get(KEY)


def test_another_object_of_the_name_is_refused(store: ObjectStore) -> None:
    store.create(KEY, document())
    with pytest.raises(ObjectExistsError):
        store.create(KEY, document())


def test_a_watch_sees_each_change_once(store: ObjectStore) -> None:
    store.create(KEY, document())
    since = store.revision
    store.replace(KEY, document(a=1))
    store.delete(KEY)
    assert [change.type for change in store.changes_since(since)] == ["MODIFIED", "DELETED"]
    with pytest.raises(WatchExpiredError):
        store.changes_since(since + 10)


def test_changes_of_an_earlier_process_are_not_made_up(tmp_path: Path) -> None:
    first = ObjectStore(tmp_path / "objects")
    first.create(KEY, document())
    first.close()
    second = ObjectStore(tmp_path / "objects")
    with pytest.raises(WatchExpiredError):
        second.changes_since(0)
    assert second.changes_since(second.revision) == []
    second.close()


def test_the_folder_is_private_and_has_one_user(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects")
    assert stat.S_IMODE((tmp_path / "objects").stat().st_mode) == 0o700
    with pytest.raises(ControlPlaneError, match="another control plane"):
        ObjectStore(tmp_path / "objects")
    store.close()


class Planted:
    """Unpickled, it would leave a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_pickled_row_is_refused_and_not_run(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects")
    store.create(KEY, document())
    store.close()
    with sqlite3.connect(tmp_path / "objects" / "cache.db") as database:
        data = pickle.dumps(Planted(tmp_path / "owned"))
        database.execute("UPDATE Cache SET mode = 4, value = ? WHERE key LIKE 'object/%'", [data])
    database.close()
    with pytest.raises(ControlPlaneError, match="no plain bytes"):
        ObjectStore(tmp_path / "objects")
    assert not (tmp_path / "owned").exists()


def test_a_row_that_names_a_file_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects")
    store.create(KEY, document())
    store.close()
    (tmp_path / "private").write_text("not for objects")
    with sqlite3.connect(tmp_path / "objects" / "cache.db") as database:
        database.execute("UPDATE Cache SET mode = 2, filename = '../private', value = NULL")
    database.close()
    with pytest.raises(ControlPlaneError, match="no plain bytes") as caught:
        ObjectStore(tmp_path / "objects")
    names = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not [name for name in names if str(tmp_path) in name], caught.value


class Crash(BaseException):
    """Stands for the end of the process."""


class StoreMachine(RuleBasedStateMachine):
    """Against a plain dict; after a crash, before or after its commit, the store is one of both."""

    directory: Path
    number = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).number += 1
        self.folder = self.directory / str(self.number)
        self.store = ObjectStore(self.folder)
        self.model: dict[str, int] = {}
        self.revision = 0
        self.fresh_value = 10

    names = st.sampled_from(["a", "b", "c"])

    def key(self, name: str) -> ObjectKey:
        return ObjectKey("datasets", "default", name)

    @rule(name=names, value=st.integers(0, 3))
    def create(self, name: str, value: int) -> None:
        if name in self.model:
            with pytest.raises(ObjectExistsError):
                self.store.create(self.key(name), document(name, value=value))
        else:
            self.store.create(self.key(name), document(name, value=value))
            self.model[name] = value

    @rule(name=names, value=st.integers(0, 3))
    def replace(self, name: str, value: int) -> None:
        if name in self.model:
            self.store.replace(self.key(name), document(name, value=value))
            self.model[name] = value
        else:
            with pytest.raises(ObjectNotFoundError):
                self.store.replace(self.key(name), document(name, value=value))

    @rule(name=names)
    def delete(self, name: str) -> None:
        if self.model.pop(name, None) is not None:
            self.store.delete(self.key(name))

    @rule()
    def begin_again(self) -> None:
        self.store.close()
        self.store = ObjectStore(self.folder)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), after=st.booleans())
    def crash_while_replacing(self, data: st.DataObject, after: bool) -> None:
        self.fresh_value += 1
        value = self.fresh_value
        name = data.draw(st.sampled_from(sorted(self.model)))
        crash = _crash_after_commit if after else _crash_before_commit
        with crash(self.store), pytest.raises(Crash):
            self.store.replace(self.key(name), document(name, value=value))
        if after:
            self.model[name] = value
        self.begin_again()

    @invariant()
    def holds_what_was_declared(self) -> None:
        there = {key.name: one["spec"]["value"] for key, one in self.store}
        assert there == self.model
        assert self.store.revision >= self.revision
        self.revision = self.store.revision

    def teardown(self) -> None:
        self.store.close()


@contextlib.contextmanager
def _crash_before_commit(store: ObjectStore) -> Iterator[None]:
    write = store._cache.set

    def crash(key: str, data: bytes) -> None:
        if key == "revision":
            raise Crash
        write(key, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._cache, "set", crash)
        yield


@contextlib.contextmanager
def _crash_after_commit(store: ObjectStore) -> Iterator[None]:
    def crash(_: object) -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_tell", crash)
        yield


def test_nothing_declared_is_lost_by_a_crash(tmp_path: Path) -> None:
    StoreMachine.directory = tmp_path
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
