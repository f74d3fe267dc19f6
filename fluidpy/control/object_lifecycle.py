"""What happens to an object's metadata when it is created, replaced and deleted; pure.

As Kubernetes has it: the server gives uid, creationTimestamp and generation (which grows when
anything but metadata and status changes); a deletion is only noted while finalizers are left.
Objects are plain JSON values, named as in YAML. None of the functions changes its arguments.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from fluidpy.control.moments import timestamp
from fluidpy.errors import ObjectConflictError

Document: TypeAlias = dict[str, Any]

CLUSTER: Final = ""
"""The namespace of kinds that have none."""

_SERVER_SET: Final = ("uid", "creationTimestamp", "deletionTimestamp", "generation")


class ObjectKey(NamedTuple):
    """What makes an object unique: the plural of its kind, its namespace (or ``""``), its name."""

    plural: str
    namespace: str
    name: str


def created(
    document: Mapping[str, Any], *, uid: str, now: float, finalizers: Sequence[str] = ()
) -> Document:
    """A new object: what the server sets is set, and a status that was sent is dropped."""
    fresh = copy.deepcopy(dict(document))
    fresh.pop("status", None)
    metadata = fresh["metadata"] = _without(fresh["metadata"], *_SERVER_SET, "resourceVersion")
    metadata["uid"] = uid
    metadata["creationTimestamp"] = timestamp(now)
    metadata["generation"] = 1
    held = list(dict.fromkeys([*metadata.get("finalizers", ()), *finalizers]))
    if held:
        metadata["finalizers"] = held
    return fresh


def replaced(old: Mapping[str, Any], document: Mapping[str, Any]) -> Document:
    """The object as it is after a PUT: everything as sent, but for what the server sets.

    The status stays; finalizers stay unless the document has the field. Raises ObjectConflictError
    when the document was made from another version, or of another object of the same name.
    """
    check_version(old, document)
    fresh = copy.deepcopy(dict(document))
    sent, was = fresh["metadata"], old["metadata"]
    metadata = _without(sent, *_SERVER_SET, "resourceVersion")
    metadata |= {name: was[name] for name in _SERVER_SET if name in was}
    if "finalizers" not in sent and "finalizers" in was:
        metadata["finalizers"] = list(was["finalizers"])
    fresh["metadata"] = metadata
    fresh.pop("status", None)
    if "status" in old:
        fresh["status"] = copy.deepcopy(old["status"])
    if _declared(old) != _declared(fresh):
        metadata["generation"] = was.get("generation", 1) + 1
    return fresh


def with_status(old: Mapping[str, Any], status: Mapping[str, Any]) -> Document:
    """The object with that status."""
    return {**copy.deepcopy(dict(old)), "status": copy.deepcopy(dict(status))}


def marked_for_deletion(old: Mapping[str, Any], *, now: float) -> Document:
    """The object with a deletion noted; the time of the first one stays."""
    fresh = copy.deepcopy(dict(old))
    fresh["metadata"].setdefault("deletionTimestamp", timestamp(now))
    return fresh


def without_finalizer(old: Mapping[str, Any], finalizer: str) -> Document:
    """The object without that finalizer."""
    fresh = copy.deepcopy(dict(old))
    left = [one for one in fresh["metadata"].get("finalizers", ()) if one != finalizer]
    fresh["metadata"]["finalizers"] = left
    return fresh


def is_deleting(document: Mapping[str, Any]) -> bool:
    """Whether somebody asked for the object's deletion."""
    return "deletionTimestamp" in document["metadata"]


def is_over(document: Mapping[str, Any]) -> bool:
    """Whether its deletion was asked for and nobody has to act before."""
    return is_deleting(document) and not document["metadata"].get("finalizers")


def check_version(old: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Raises ObjectConflictError when a document names another version or uid than the object's."""
    for name in ("resourceVersion", "uid"):
        wanted, there = document["metadata"].get(name), old["metadata"].get(name)
        if wanted is not None and wanted != there:
            raise ObjectConflictError(
                f"{old['kind']} {old['metadata']['name']} changed meanwhile: its {name} is "
                f"{there}, not {wanted}",
                cure="Read it again, and make the change to what is there now.",
            )


def _without(mapping: Mapping[str, Any], *names: str) -> Document:
    return {name: value for name, value in mapping.items() if name not in names}


def _declared(document: Mapping[str, Any]) -> Document:
    return _without(document, "metadata", "status")
