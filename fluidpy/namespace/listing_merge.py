"""What a new listing of a folder changes: a pure function of the rows known and those listed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fluidpy.storage.object_keys import FILE_AND_FOLDER, NAME_MAX, NAME_TOO_LONG
from fluidpy.storage.under_storage import Kind, ObjectInfo


class Child(NamedTuple):
    """One child as a source lists it now."""

    name: bytes
    kind: int
    size: int
    mtime_ns: int
    mode: int | None
    version: bytes
    target: bytes | None


class Known(NamedTuple):
    """One live child as the catalog has it; `target` is a symlink's."""

    id: int
    name: bytes
    kind: int
    size: int
    mtime_ns: int
    mode: int | None
    ino: int
    version: bytes
    target: bytes | None


@dataclass(slots=True)
class Merge:
    """What to do: `replaced` rows get a new row with the same `ino`, `removed` ones leave."""

    added: list[Child] = field(default_factory=list)
    replaced: list[tuple[Known, Child]] = field(default_factory=list)
    removed: list[Known] = field(default_factory=list)
    touched: list[tuple[Known, Child]] = field(default_factory=list)
    """Directories that stay, whose time or mode is another."""


def child_of(info: ObjectInfo) -> Child:
    """The child of its folder that `info` describes."""
    return Child(
        os.fsencode(info.path[info.path.rfind("/") + 1 :]),
        int(info.kind),
        info.size,
        info.mtime_ns,
        info.mode,
        info.version,
        None if info.target is None else os.fsencode(info.target),
    )


def showable(name: bytes) -> bool:
    """Whether a directory can hold that name; drivers leave the others out already."""
    return 0 < len(name) <= NAME_MAX and name not in (b".", b"..")


def gather(infos: Iterable[ObjectInfo], omitted: dict[str, int]) -> dict[bytes, Child]:
    """The children by name; what cannot be shown is counted in `omitted`.

    Of a file and a folder of one name, the folder is shown.
    """
    children: dict[bytes, Child] = {}
    for info in infos:
        child = child_of(info)
        if not showable(child.name):
            omitted[NAME_TOO_LONG] = omitted.get(NAME_TOO_LONG, 0) + 1
            continue
        other = children.get(child.name)
        if other is not None and (other.kind == Kind.DIRECTORY) != (child.kind == Kind.DIRECTORY):
            omitted[FILE_AND_FOLDER] = omitted.get(FILE_AND_FOLDER, 0) + 1
            if other.kind == Kind.DIRECTORY:
                continue
        children[child.name] = child
    return children


def same(known: Known, child: Child) -> bool:
    """Whether the listed file or symlink is the version that is known."""
    return (
        known.version == child.version
        and known.size == child.size
        and known.mtime_ns == child.mtime_ns
        and known.kind == child.kind
        and known.mode == child.mode
        and known.target == child.target
    )


def merge(known: Iterable[Known], children: Mapping[bytes, Child]) -> Merge:
    """Compares all live rows of a folder with its whole listing."""
    result = Merge()
    left = dict(children)
    for row in known:
        child = left.pop(row.name, None)
        if child is None:
            result.removed.append(row)
        else:
            compare(row, child, result)
    result.added.extend(left.values())
    return result


def compare(known: Known, child: Child, result: Merge) -> None:
    """Files what is to be done about one name that is known and listed."""
    if known.kind == Kind.DIRECTORY and child.kind == Kind.DIRECTORY:
        if child.mtime_ns and (known.mtime_ns, known.mode) != (child.mtime_ns, child.mode):
            result.touched.append((known, child))
    elif known.kind != child.kind:
        # Another kind is another file to the kernel: it gets another inode number too.
        result.removed.append(known)
        result.added.append(child)
    elif not same(known, child):
        result.replaced.append((known, child))
