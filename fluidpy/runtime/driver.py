"""The seam between the control plane and every runtime.

A driver is asked in this order: `prepare` checks what is declared and settles it as a plan;
`desired` says which commands, processes and mounts a plan needs; `observe` makes states of what was
seen of them; `mount` names the sources that the worker reads; `scale`, `load` and `teardown` answer
what their names say. All are functions of their arguments: no driver starts a process, opens a
socket or reads a clock. Whoever carries the answers out restarts processes, waits with deadlines
and tells failures.

The *embedded* driver (`EmbeddedDriver`) is fluidpy's own engine: the worker reads the sources
itself. *Declarative* drivers follow from a manifest (mount plug-ins). An engine brings a class of
its own (`engine.class` of its manifest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from fluidpy.api.dataset import Dataset
from fluidpy.api.metadata import Resource
from fluidpy.cache.tier import TierDefinition
from fluidpy.namespace.definition import MountDefinition

SecretValue: TypeAlias = tuple[str, str]
"""A Secret's name and a key in it."""


@dataclass(frozen=True, slots=True)
class RuntimePlace:
    """Directories that a runtime of one Dataset has for itself; each is private (0700)."""

    work: Path
    """Configuration and secret files; made anew at each start."""
    target: Path
    """Where the runtime mounts."""
    cache: Path
    """What the runtime may keep from one start to the next."""


@dataclass(frozen=True, slots=True)
class RuntimeRequest:
    """What is declared, with all that it refers to."""

    dataset: Dataset
    mounts: Sequence[MountDefinition]
    """The Dataset's mounts with options and secrets resolved, references to Datasets expanded."""
    place: RuntimePlace
    runtime: Resource | None = None
    """The runtime object of the Dataset's name; None for the default."""
    profile: Resource | None = None
    """The ThinRuntimeProfile or CacheRuntimeClass that the runtime names."""
    secrets: Mapping[SecretValue, str] = field(default_factory=dict, repr=False)
    """Values that the objects refer to, by Secret and key."""
    tiers: Sequence[TierDefinition] = ()
    """Cache levels that the runtime declares, checked; none where it declares none."""


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file to be there before a process starts; written with mode 0600."""

    path: Path
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Command:
    """A program that runs to its end. No secret belongs in `arguments`: others can read them."""

    name: str
    """What messages call it, such as `juicefs format`."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the environment of whoever runs it."""
    files: tuple[PrivateFile, ...] = ()
    deadline_seconds: float = 60.0
    redacted: tuple[str, ...] = field(default=(), repr=False)
    """Values that are replaced in what is told of its output."""


@dataclass(frozen=True, slots=True)
class ExpectedMount:
    """What has to appear in `/proc/self/mountinfo` for a process to count as ready."""

    target: Path
    filesystem_type: str
    """As the kernel names it, such as `fuse.sshfs`; empty for any."""
    ready_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class LongRunning:
    """A process that is kept running: started again when it ends, with a growing pause."""

    command: Command
    mount: ExpectedMount | None = None
    stop_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""
    unmount: tuple[str, ...] = ()
    """Run after the process; `umount` of the target if empty."""
    redacted: tuple[str, ...] = field(default=(), repr=False)
    """Values that are replaced in what is kept of the process's output."""
    binds: tuple[tuple[Path, Path], ...] = ()
    """Directories that the process alone sees at other places: (place, directory). Without root
    they stay where they are."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text that a driver wants to see in `observe`: a file's, or what a command prints."""

    name: str
    """The key in `Seen.texts`."""
    file: Path | None = None
    command: Command | None = None
    every_seconds: float = 1.0
    """It is read at most this often."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to be true of this machine: commands in order, then processes, all at once."""

    commands: tuple[Command, ...] = ()
    """Each may run again at any time and has then nothing to do."""
    processes: tuple[LongRunning, ...] = ()
    directories: tuple[Path, ...] = ()
    """Made with mode 0700 before anything runs."""
    readings: tuple[Reading, ...] = ()
    """Read while the processes are ready; what cannot be read is not among the texts."""


@dataclass(frozen=True, slots=True)
class Teardown:
    """What is left to do once the processes have ended and their mounts are gone."""

    commands: tuple[Command, ...] = ()
    remove: tuple[Path, ...] = ()
    """Directories of the runtime's own that go with all they hold."""


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """What is seen of one of the processes, by the name of its command."""

    running: bool
    ready: bool
    restarts: int = 0
    failure: str = ""
    """Why it is not ready, for people, with no secret in it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of a runtime: its processes, and texts that the driver asked for by name."""

    processes: Mapping[str, SeenProcess] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """What a runtime comes to."""

    ready: bool
    reason: str = ""
    """Why it is not ready, for people."""
    cache_states: Mapping[str, str] = field(default_factory=dict)
    """Fluid's keys (`cached`, `cachedPercentage`, …); empty leaves them to the worker."""
    files: int | None = None
    """Files of the Dataset, where the runtime knows; None leaves them to the worker."""
    bytes: int | None = None
    """Bytes of all of them."""


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What the commands of a load came to."""

    files: int
    bytes: int
    cached_bytes: int
    """How many of the bytes are cached now."""


Plan: TypeAlias = Any
"""What a driver settled in `prepare`: a frozen value of its own that others pass on unseen."""


@runtime_checkable
class RuntimeDriver(Protocol):
    """A runtime: what has to run, and what is then to be read."""

    def prepare(self, request: RuntimeRequest) -> Plan:
        """Settles what is declared. Raises ValidationError with every problem, one a line."""
        ...

    def desired(self, plan: Plan) -> Desired:
        """What has to run on this machine."""
        ...

    def observe(self, plan: Plan, seen: Seen) -> RuntimeState:
        """What it comes to that this is seen."""
        ...

    def mount(self, plan: Plan) -> tuple[MountDefinition, ...]:
        """What the worker reads once the runtime is ready, and where it lies in the Dataset."""
        ...

    def scale(self, plan: Plan, replicas: int) -> Plan:
        """The plan for that many workers; the same one where the engine has none of its own."""
        ...

    def load(self, plan: Plan, paths: Sequence[str]) -> tuple[Command, ...]:
        """Commands that warm these paths of the Dataset; none leaves it to the worker."""
        ...

    def teardown(self, plan: Plan) -> Teardown:
        """What is to be done when the Dataset is deleted."""
        ...


@runtime_checkable
class EngineDriver(RuntimeDriver, Protocol):
    """The driver of an engine that caches itself: the worker in front of it keeps nothing."""

    def missing(self) -> str:
        """What this machine lacks to run the engine, with the cure; empty if nothing."""
        ...

    def load_with(
        self, plan: Plan, paths: Sequence[str], options: Mapping[str, str]
    ) -> tuple[Command, ...]:
        """As `load`, with the options of the DataLoad. Raises ValidationError."""
        ...

    def loaded(self, plan: Plan, outputs: Sequence[str]) -> LoadOutcome:
        """What came of a load, from what its commands printed, in order."""
        ...


class EmbeddedDriver:
    """fluidpy's own engine, and every storage plug-in: the worker reads the sources itself."""

    def prepare(self, request: RuntimeRequest) -> tuple[MountDefinition, ...]:
        """The mounts as they are; whoever resolved them has checked them."""
        return tuple(request.mounts)

    def desired(self, plan: Plan) -> Desired:
        """Nothing beside the worker, which runs anyway."""
        return Desired()

    def observe(self, plan: Plan, seen: Seen) -> RuntimeState:
        """Ready; the worker tells the rest."""
        return RuntimeState(ready=True)

    def mount(self, plan: Plan) -> tuple[MountDefinition, ...]:
        """The sources as they were declared."""
        mounts: tuple[MountDefinition, ...] = plan
        return mounts

    def scale(self, plan: Plan, replicas: int) -> Plan:
        """The pool of workers grows and shrinks without the driver."""
        return plan

    def load(self, plan: Plan, paths: Sequence[str]) -> tuple[Command, ...]:
        """The worker warms."""
        return ()

    def teardown(self, plan: Plan) -> Teardown:
        """Nothing is left."""
        return Teardown()
