"""What loading files comes to: objects, where each thing in them stands, and what is wrong.

Positions are lines and columns from 1; 0 means that the problem belongs to the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fluidpy.api.metadata import Resource

FieldPath: TypeAlias = tuple[str | int, ...]
"""The way to a value: names of fields (as in YAML) and indices of list items."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def format_path(path: FieldPath) -> str:
    """A path as people write it: `spec.mounts[0].options["fs.s3.endpoint"]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a warning: where, what, and what to do."""

    file: str
    line: int
    column: int
    field_path: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        where = f"{place}: {self.field_path}" if self.field_path else place
        return f"{where}: {with_cure(self.message, self.cure)}"


def with_cure(message: str, cure: str) -> str:
    """What is wrong and what to do, in one line; a cure that is a sentence follows as one."""
    if not cure:
        return message
    if not cure[0].isupper():
        return f"{message}; {cure}"
    return f"{message} {cure}" if message.endswith("?") else f"{message}. {cure}"


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the keys and values of one document stand: path → (line, column)."""

    values: Mapping[FieldPath, tuple[int, int]] = field(default_factory=dict)
    keys: Mapping[FieldPath, tuple[int, int]] = field(default_factory=dict)

    def of(self, path: FieldPath, *, key: bool = False) -> tuple[int, int]:
        """Where a value (or its key) stands; for what is not there, what should hold it."""
        if key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return 0, 0


@dataclass(frozen=True, slots=True)
class LoadedObject:
    """An object and the place it was read from (`line` of its first key)."""

    object: Resource
    file: str
    line: int
    positions: Positions = field(default_factory=Positions, repr=False, compare=False)
    at: FieldPath = field(default=(), repr=False, compare=False)
    """Where the object lies in its document: `()`, or `("items", 0)` and the like in a `List`."""
    damaged: tuple[FieldPath, ...] = field(default=(), repr=False, compare=False)
    """Paths that were refused and left out of `object`, so that the rest can be checked too."""

    def problem(self, path: FieldPath, message: str, cure: str = "") -> Problem:
        """A problem of this object at `path`."""
        whole = (*self.at, *path)
        line, column = self.positions.of(whole)
        return Problem(self.file, line or self.line, column, format_path(whole), message, cure)

    def has(self, path: FieldPath) -> bool:
        """Whether the file says something at `path`."""
        return (*self.at, *path) in self.positions.values

    def is_trusted(self, path: FieldPath) -> bool:
        """Whether nothing at, above, below or right beside `path` was refused.

        Else what is found there may be an echo of what was told already.
        """
        return not any(
            path[: len(hurt)] == hurt or hurt[: len(path)] == path or path[:-1] == hurt[:-1]
            for hurt in self.damaged
        )
