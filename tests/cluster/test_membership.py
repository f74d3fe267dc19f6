"""The file that tells the workers of a pool who they are."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidpy.cluster.membership import (
    DatasetMembership,
    Member,
    Membership,
    read_membership,
    write_membership,
)
from fluidpy.errors import ClusterError, PeerError, from_wire

MEMBERS = (
    Member("worker-0", "127.0.0.1:41234", "here", 1 << 30),
    Member("worker-1", "", "here", 1 << 30, zone="a", draining=True),
)
MEMBERSHIP = Membership(
    7,
    MEMBERS,
    {"default/images": DatasetMembership(("worker-0", "worker-1"), 2, ("worker-9",), "s3cret")},
    tls=True,
    ca_file=Path("/ca.pem"),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_membership(tmp_path / "members", MEMBERSHIP)
    assert read_membership(tmp_path / "members") == MEMBERSHIP
    assert os.listdir(tmp_path) == ["members"]


@settings(deadline=None)
@given(st.lists(st.text(), unique=True, max_size=5), st.integers(0, 1 << 60), st.text())
def test_any_names_cross_the_file(names: list[str], number: int, word: str) -> None:
    members = tuple(Member(name, word, word, number, word) for name in names)
    datasets = {name: DatasetMembership(tuple(names), number + 1, (word,), word) for name in names}
    membership = Membership(number, members, datasets)
    assert Membership.from_wire(json.loads(json.dumps(membership.to_wire()))) == membership


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "members"
    path.touch(0o644)
    write_membership(path, MEMBERSHIP)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_is_in_no_repr_and_no_error(tmp_path: Path) -> None:
    assert "s3cret" not in repr(MEMBERSHIP)
    path = tmp_path / "members"
    write_membership(path, MEMBERSHIP)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole.replace(b'"members"', b'"s3cret"')):
        path.write_bytes(damaged)
        with pytest.raises(ClusterError) as caught:
            read_membership(path)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "JSONDecodeError"),
        (b"[]", "TypeError"),
        (b"{}", "KeyError"),
        (b'{"generation": -1, "members": [], "datasets": {}}', "ValueError"),
        (b'{"generation": 1, "members": [1], "datasets": {}}', "TypeError"),
        (b'{"generation": 1, "members": [], "datasets": {"a/b": {}}}', "KeyError"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "members"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ClusterError, match="members is damaged") as caught:
        read_membership(path)
    assert why in caught.value.message
    assert "fluidpy up" in caught.value.cure


def test_a_missing_and_an_open_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "members"
    with pytest.raises(ClusterError, match="cannot be read: No such file"):
        read_membership(path)
    write_membership(path, MEMBERSHIP)
    path.chmod(0o640)
    with pytest.raises(ClusterError, match="open to other users"):
        read_membership(path)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(MEMBERSHIP, members=(*MEMBERS, MEMBERS[0])),
        replace(MEMBERSHIP, members=MEMBERS[:1]),
        replace(MEMBERSHIP, datasets={"a/b": DatasetMembership(("worker-0",), 0)}),
    ],
    ids=["twice", "unknown", "no replica"],
)
def test_a_membership_that_cannot_be_is_not_written(tmp_path: Path, wrong: Membership) -> None:
    path = tmp_path / "members"
    write_membership(path, MEMBERSHIP)
    with pytest.raises(ValueError, match=r"member|replicas"):
        write_membership(path, wrong)
    assert read_membership(path) == MEMBERSHIP


def test_a_full_disk_leaves_the_last_membership(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "members"
    write_membership(path, MEMBERSHIP)

    def fail(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ClusterError, match="No space left"):
        write_membership(path, replace(MEMBERSHIP, generation=8))
    monkeypatch.undo()
    assert read_membership(path).generation == 7
    assert os.listdir(tmp_path) == ["members"]


def test_errors_of_peers_cross_the_wire() -> None:
    kinds = PeerError.__subclasses__()
    assert len(kinds) == 5
    for kind in kinds:
        again = from_wire(kind("a: b", cure="c").to_wire())
        assert type(again) is kind
        assert isinstance(again, ConnectionError)
        assert str(again) == "a: b. c"


def test_who_has_data_to_hand_over_keeps_his_room_until_it_is_taken() -> None:
    members = tuple(Member(f"w{n}", f"127.0.0.1:{n}", "m" if n < 3 else "n", 1) for n in range(4))
    settled = DatasetMembership(("w0", "w1", "w2"))
    moving = DatasetMembership(("w0", "w1", "w2"), previous=("w0",))
    pool = Membership(1, members, {"a/a": settled, "a/b": moving})
    assert [pool.sharing(f"w{n}") for n in range(5)] == [1, 3, 3, 1, 1]
    assert Membership(2, members, {"a/a": settled, "a/b": settled}).sharing("w0") == 3
