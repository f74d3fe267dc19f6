"""What the checks found, and what they know of all objects together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fluidpy.api.kinds import key_of
from fluidpy.api.problem import FieldPath, LoadedObject, Problem
from fluidpy.api.secret import Secret

SecretKnown: TypeAlias = Callable[[str, str, str], bool]
"""Whether a Secret key is at hand outside the files: `(namespace, name, key)`; key may be `""`."""


@dataclass(slots=True)
class Findings:
    """Problems and warnings."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, one: LoadedObject, path: FieldPath, message: str, cure: str = "") -> None:
        """Something is wrong at `path`; not told when that may be an echo of another problem."""
        if one.is_trusted(path):
            self.problems.append(one.problem(path, message, cure))

    def warning(self, one: LoadedObject, path: FieldPath, message: str, cure: str = "") -> None:
        """Something has no effect, or not the one that might be expected."""
        if one.is_trusted(path):
            self.warnings.append(one.problem(path, message, cure))

    def ignored(self, one: LoadedObject, path: FieldPath, reason: str) -> None:
        """A field that Fluid accepts and ignores, and fluidpy too."""
        self.warning(one, path, f"is accepted and ignored: {reason}", "leave it out")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The other objects of the same files."""

    by_key: Mapping[tuple[str, str, str], LoadedObject]
    secret_known: SecretKnown | None = None

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """Whether the files have that object."""
        return (kind, namespace, name) in self.by_key

    def secret_missing(self, namespace: str, name: str, key: str) -> str:
        """Why a Secret key that must be there is not; `""` when it is or need not be."""
        if self.secret_known is None or self.secret_known(namespace, name, key):
            return ""
        found = self.by_key.get(("Secret", namespace, name))
        if found is None:
            return f"there is no Secret '{name}' in namespace '{namespace}'"
        assert isinstance(found.object, Secret)
        if key and key not in found.object.key_names():
            return f"the Secret '{name}' has no key '{key}'"
        return ""


def index_objects(objects: list[LoadedObject]) -> dict[tuple[str, str, str], LoadedObject]:
    """Objects by kind, namespace and name; the first one of a name."""
    index: dict[tuple[str, str, str], LoadedObject] = {}
    for one in objects:
        index.setdefault(key_of(one.object), one)
    return index
