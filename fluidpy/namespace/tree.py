"""How mounts lie in one tree: a pure function of their paths, by Fluid's rules.

A mount is a directory at its path. A mount below another's path is nested: it hides what the outer
source has at that name. Directories on the way to a mount exist even where no source has them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import MountDefinition


class Node(NamedTuple):
    """A directory that exists by mounts' paths.

    `mount` is the index of the mount whose source lists it, -1 for none. `top` says that the
    mount's own root is here.
    """

    parts: tuple[bytes, ...]
    mount: int
    top: bool


def parts_of(path: str) -> tuple[bytes, ...]:
    """The names of an absolute path."""
    return tuple(os.fsencode(part) for part in path.split("/") if part)


def lay_out(mounts: Sequence[MountDefinition]) -> list[Node]:
    """The directories that mounts make, parents first, the root always among them.

    Raises ValidationError that names all pairs of mounts with one path.
    """
    tops: dict[tuple[bytes, ...], int] = {}
    clashes: list[str] = []
    for index, mount in enumerate(mounts):
        other = tops.setdefault(parts_of(mount.path), index)
        if other != index:
            clashes.append(
                f"mounts {mounts[other].name!r} and {mount.name!r} both have the path {mount.path}"
            )
    if clashes:
        raise ValidationError("\n".join(clashes), cure="Give each mount a path of its own.")
    places = {parts[:depth] for parts in tops for depth in range(len(parts) + 1)} | {()}
    return [
        Node(parts, _covering(parts, tops), parts in tops)
        for parts in sorted(places, key=lambda parts: (len(parts), parts))
    ]


def _covering(parts: tuple[bytes, ...], tops: dict[tuple[bytes, ...], int]) -> int:
    for depth in range(len(parts), -1, -1):
        if (index := tops.get(parts[:depth])) is not None:
            return index
    return -1
