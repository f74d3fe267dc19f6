"""The members of a pool of workers and the Datasets placed on them: one file for all its workers.

The control plane writes the file, whole or not at all, for its owner only (it holds the tokens of
the Datasets); the workers look at it often and read it when it has changed. Every write has a
greater `generation` than the one before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluidpy.cluster.private_files import replace_privately
from fluidpy.errors import ClusterError

_CURE = "Run `fluidpy up`, which writes it anew."


@dataclass(frozen=True, slots=True)
class Member:
    """One worker of the pool.

    `address` is HOST:PORT, where the other workers reach it; empty while it is not known. `machine`
    and `zone` say what it shares a failure with; an empty `zone` is not labelled. `capacity_bytes`
    is what its tiers hold together and so its share of the data. A `draining` member keeps serving
    what it has and owns nothing.
    """

    name: str
    address: str
    machine: str
    capacity_bytes: int
    zone: str = ""
    draining: bool = False


@dataclass(frozen=True, slots=True)
class DatasetMembership:
    """Where one Dataset lies: the names of its members, and `replicas` owners for each unit.

    `previous` are its members before the last change while data still moves, and empty when it is
    settled; they may name workers that are gone. `previous_replicas` of them owned each unit (0: as
    many as now). `token` is what a request for the Dataset carries.
    """

    members: tuple[str, ...]
    replicas: int = 1
    previous: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    previous_replicas: int = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """The pool in one generation; `datasets` by `namespace/name`.

    With `tls`, members speak TLS and `ca_file` names the certificate that signed theirs.
    """

    generation: int
    members: tuple[Member, ...]
    datasets: Mapping[str, DatasetMembership]
    tls: bool = False
    ca_file: Path | None = None

    def member(self, name: str) -> Member | None:
        """The member of that name, or None."""
        return next((member for member in self.members if member.name == name), None)

    def sharing(self, name: str) -> int:
        """How many workers, that one included, share the free space of its machine.

        While data moves, for who had it those of before count: he throws nothing away that another
        one has still to take over.
        """
        own = self.member(name)
        if own is None:
            return 1
        here = sum(member.machine == own.machine for member in self.members)
        before = (len(one.previous) for one in self.datasets.values() if name in one.previous)
        return min(here, *before, here)

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, tokens included."""
        return {
            "generation": self.generation,
            "tls": self.tls,
            "caFile": None if self.ca_file is None else os.fspath(self.ca_file),
            "members": [_member_to_wire(member) for member in self.members],
            "datasets": {key: _dataset_to_wire(value) for key, value in self.datasets.items()},
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Membership:
        """What `to_wire` described. Raises ValueError, KeyError, TypeError for anything else."""
        membership = cls(
            _whole(wire["generation"]),
            tuple(_member_from_wire(each) for each in wire["members"]),
            {str(k): _dataset_from_wire(v) for k, v in dict(wire["datasets"]).items()},
            bool(wire.get("tls", False)),
            None if wire.get("caFile") is None else Path(wire["caFile"]),
        )
        _check_names(membership)
        return membership


def read_membership(path: Path) -> Membership:
    """The membership that a file holds.

    Raises ClusterError when it is missing, unreadable, open to other users or not a membership.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read()
    except OSError as error:
        raise ClusterError(
            f"The membership file {path} cannot be read: {error.strerror}", cure=_CURE
        ) from error
    if mode & 0o077:
        raise ClusterError(
            f"The membership file {path} holds tokens and is open to other users",
            cure=f"Run `chmod 600 {path}` and apply the Datasets again, for new tokens.",
        )
    try:
        return Membership.from_wire(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # The content is not repeated, and neither is the error: both may hold a token.
        raise ClusterError(
            f"The membership file {path} is damaged ({type(error).__name__})", cure=_CURE
        ) from None


def write_membership(path: Path, membership: Membership) -> None:
    """Replaces the file (mode 0600), whole or not at all, also when the machine loses power.

    Raises ValueError for a membership that could not be read back, ClusterError when the file
    cannot be written.
    """
    _check_names(membership)
    content = json.dumps(membership.to_wire(), separators=(",", ":")).encode()
    try:
        replace_privately(path, content)
    except OSError as error:
        raise ClusterError(
            f"The membership file {path} cannot be written: {error.strerror}",
            cure="Free space there or make its folder writable; the workers keep the last one.",
        ) from error


def _check_names(membership: Membership) -> None:
    names = {member.name for member in membership.members}
    if len(names) != len(membership.members):
        raise ValueError("two members have one name")
    for key, dataset in membership.datasets.items():
        if unknown := set(dataset.members) - names:
            raise ValueError(f"{key} is placed on {', '.join(sorted(unknown))}, no member")
        if dataset.replicas < 1:
            raise ValueError(f"{key} has {dataset.replicas} replicas, at least 1 is possible")


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a whole number")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError("not a list of names")
    return tuple(value)


def _member_to_wire(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "address": member.address,
        "machine": member.machine,
        "zone": member.zone,
        "capacityBytes": member.capacity_bytes,
        "draining": member.draining,
    }


def _member_from_wire(wire: Mapping[str, Any]) -> Member:
    return Member(
        str(wire["name"]),
        str(wire["address"]),
        str(wire["machine"]),
        _whole(wire["capacityBytes"]),
        str(wire.get("zone", "")),
        bool(wire.get("draining", False)),
    )


def _dataset_to_wire(dataset: DatasetMembership) -> dict[str, Any]:
    return {
        "members": list(dataset.members),
        "replicas": dataset.replicas,
        "previous": list(dataset.previous),
        "previousReplicas": dataset.previous_replicas,
        "token": dataset.token,
    }


def _dataset_from_wire(wire: Mapping[str, Any]) -> DatasetMembership:
    return DatasetMembership(
        _names(wire["members"]),
        _whole(wire["replicas"]),
        _names(wire["previous"]),
        str(wire["token"]),
        _whole(wire.get("previousReplicas", 0)),
    )
