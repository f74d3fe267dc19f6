"""A client whose worker is gone goes on by another one, with the rows that it knew."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.session import DatasetSession
from fluidpy.errors import CacheError
from fluidpy.namespace.catalog import CatalogReader
from tests.worker.conftest import Machine, MakeMachine, await_end


@pytest.fixture
def machines(make_machine: MakeMachine) -> tuple[Machine, Machine]:
    """Two workers of the same source."""
    one, other = make_machine(), make_machine()
    other.bucket = one.bucket
    one.write("a/x", b"x" * 100)
    one.write("y", b"y" * 100)
    return one, other


def end(machine: Machine) -> None:
    pid = machine.pid
    os.kill(pid, signal.SIGTERM)
    await_end(pid)


def take(session: DatasetSession, catalog: str, name: str = "default/data") -> dict[str, Any]:
    ok, fds = session.connection.call("attach", deadline=20, name=name, catalog=catalog)
    assert not fds
    return ok


def rows(catalog: str) -> dict[bytes, tuple[int, int]]:
    reader = CatalogReader(Path(catalog))
    try:
        return {reader.path_of(e.id): (e.id, e.ino) for e in reader.files()}
    finally:
        reader.close()


def test_rows_stay_the_same_and_the_tree_goes_on(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    with_one, with_other = one.session(), other.session()
    assert [e.name for e in with_one.listdir("")] == [b"a", b"y"]
    with_one.listdir("a")
    catalog = with_one.attachment().catalog
    known = rows(catalog)
    with_other.listdir("")
    own = with_other.attachment()
    with pytest.raises(CacheError, match="in use by the worker"):
        take(with_other, catalog)
    end(one)
    taken = take(with_other, catalog)
    assert taken["catalog"] not in (catalog, own.catalog)
    assert rows(taken["catalog"]) == known
    assert take(with_other, catalog)["dataset"] == taken["dataset"], "two mounts share one copy"
    assert take(with_other, taken["catalog"])["dataset"] == taken["dataset"]
    assert take(with_other, own.catalog)["dataset"] == own.dataset

    one.write("new", b"new")
    ask = {"deadline": 20, "dataset": taken["dataset"]}
    with_other.connection.call("resolve", path="new", refresh=True, **ask)
    after = rows(taken["catalog"])
    assert {path: after[path] for path in known} == known
    assert set(after) == {*known, b"new"}
    status, _ = with_other.connection.call("status", deadline=20)
    (row,) = status["datasets"]
    assert (row["key"], row["catalog"]) == ("default/data", own.catalog), "it counts once"


def test_a_copy_that_went_on_is_not_given_to_who_knows_other_rows(
    machines: tuple[Machine, Machine],
) -> None:
    one, other = machines
    catalog = ""
    copies = []
    with_other = other.session()
    with_other.listdir("")
    for name in ("first", "second"):
        one.write(name, b"1")
        session = one.session(replace(one.definition(), metadata_ttl_seconds=0.0))
        session.listdir("")
        catalog = session.attachment().catalog
        known = rows(catalog)
        end(one)
        copies.append(take(with_other, catalog)["catalog"])
        assert rows(copies[-1]) == known
    assert copies[0] != copies[1]


def test_no_other_file_is_taken_for_a_catalog(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    _, other = machines
    with_other = other.session()
    with_other.listdir("")
    with pytest.raises(CacheError, match="no catalog of the Dataset"):
        take(with_other, str(tmp_path / "default.others.sqlite"))
    with pytest.raises(CacheError, match="cannot be taken over"):
        take(with_other, str(tmp_path / "default.data.sqlite"))
    assert not list(tmp_path.glob("default*")), "nothing is made where it was named"


def reattach(machine: Machine, catalog: str) -> dict[str, Any]:
    """What a mount's next server does after the one before has crashed."""
    session = machine.session()
    return take(session, catalog)


def test_a_mount_goes_on_as_the_last_user_of_its_dataset(
    machines: tuple[Machine, Machine],
) -> None:
    one, other = machines
    with_one = one.session()
    with_one.listdir("")
    own = with_one.attachment()
    with_one.close()
    with_one.connection.close()
    await_no_users(one)
    assert reattach(one, own.catalog)["dataset"] == own.dataset
    end(one)
    with_other = other.session()
    with_other.listdir("")
    taken = take(with_other, own.catalog)
    with_other.close()
    with_other.connection.close()
    await_no_users(other)
    assert reattach(other, taken["catalog"])["dataset"] == taken["dataset"]


def await_no_users(machine: Machine) -> None:
    """Waits until the worker has seen that its clients are gone."""
    asking = machine.session()
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        status, _ = asking.connection.call("status", deadline=20)
        if not any(row["client_pids"] for row in status["datasets"]):
            return
        time.sleep(0.01)
    raise AssertionError("the worker has clients still")
