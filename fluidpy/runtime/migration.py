"""DataMigrate at the seam of runtimes: engines that copy between their Datasets and other stores.

As all of the seam: functions of their arguments. Whoever carries a migration out runs the command,
bounds it, and looks at its figures meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from fluidpy.runtime.driver import Command, EngineDriver, Plan


@dataclass(frozen=True, slots=True)
class DatasetEnd:
    """A Dataset that the engine serves, as source or destination."""

    plan: Plan
    path: str = "/"
    """In the Dataset; one that ends in `/` is a folder."""


@dataclass(frozen=True, slots=True)
class ExternalEnd:
    """A store outside any Dataset."""

    url: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values by the names that `encryptOptions` give them."""


MigrationEnd: TypeAlias = DatasetEnd | ExternalEnd


@dataclass(frozen=True, slots=True)
class Copied:
    """How far a migration is."""

    found: int = 0
    """Objects of the source that were looked at so far."""
    done: int = 0
    """Those of them that are in the destination now, or were so before."""
    failed: int = 0
    excluded: int = 0
    """Those that the options leave out."""
    bytes: int = 0
    """Bytes of those that are done."""
    failures: tuple[tuple[str, str], ...] = ()
    """The first of those that failed, and why."""


@runtime_checkable
class MigratingDriver(EngineDriver, Protocol):
    """An engine that carries DataMigrates out."""

    def migrate(
        self, source: MigrationEnd, destination: MigrationEnd, options: Mapping[str, str]
    ) -> Command:
        """What copies one end to the other, skipping what is there. Raises ValidationError."""
        ...

    def figures_at(self, line: str) -> str:
        """The URL of the command's figures, if this line of its output tells it; else empty."""
        ...

    def figures(self, text: str) -> Copied:
        """How far it is, from what that URL answers."""
        ...

    def migrated(self, output: str) -> Copied:
        """What came of it, from the end of its output."""
        ...
