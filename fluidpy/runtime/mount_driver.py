"""The driver of mount plug-ins: from a manifest and a Dataset to programs that mount. Pure.

By *arguments*: one program a mount, told by placeholders. In *Fluid's way*: one program for the
whole Dataset, which reads `/etc/fluid/config/config.json` (`thin_contract`). Either way the worker
reads what is mounted, so a Dataset of such a plug-in is cached, warmed and scaled as any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.errors import FluidpyError, ValidationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.driver import (
    Command,
    Desired,
    ExpectedMount,
    LongRunning,
    PrivateFile,
    RuntimePlace,
    RuntimeRequest,
    RuntimeState,
    Seen,
    Teardown,
)
from fluidpy.runtime.manifest import Manifest, MountSection
from fluidpy.runtime.placeholders import filled
from fluidpy.runtime.thin_contract import (
    CONFIG_FILE,
    FLUID_PLACE,
    ThinDeclaration,
    thin_environment,
    thin_files,
)
from fluidpy.storage.option_names import LIMIT_OPTIONS
from fluidpy.storage.plugins import InstalledOption, InstalledPlugin, with_plugin_options
from fluidpy.storage.source_check import MOUNTED, MOUNTED_AS, check_source
from fluidpy.storage.under_storage import MountSource, identity_digest

CONFIG_VARIABLE: Final = "FLUIDPY_THIN_CONFIG"
"""Where `config.json` really lies: without root nothing can be put at `/etc/fluid`."""


@dataclass(frozen=True, slots=True)
class Client:
    """One program of a plug-in: what it is told, and where it mounts."""

    process: LongRunning
    shown: MountDefinition
    """How the worker reads it."""
    cache: Path
    """Its `{cacheDir}`."""


@dataclass(frozen=True, slots=True)
class MountPlan:
    """The programs of one Dataset, and the mounts that are left to the worker."""

    clients: tuple[Client, ...]
    place: RuntimePlace
    native: tuple[MountDefinition, ...] = ()


class MountDriver:
    """Runs the program of one mount plug-in."""

    def __init__(
        self, manifest: Manifest, directory: Path, *, own_view: bool = os.geteuid() == 0
    ) -> None:
        """`directory` holds `runtime.yaml`; `own_view`: files may be shown at `/etc/fluid`."""
        assert manifest.mount is not None
        self._manifest, self._mount = manifest, manifest.mount
        self._directory, self._own_view = directory, own_view

    def prepare(self, request: RuntimeRequest) -> MountPlan:
        """The programs to run. Raises ValidationError with all that is wrong, one a line."""
        if self._mount.contract == "fluid":
            client = self._fluid_client(request)
            return MountPlan((client,), request.place)
        own = [one for one in request.mounts if self._takes(one.source)]
        native = tuple(one for one in request.mounts if one not in own)
        problems: list[str] = []
        for one in native:
            _gather(problems, partial(check_source, one.source, None, drivers_here=False))
        made = [
            _gather(problems, partial(self._client, request, index, one, len(own)))
            for index, one in enumerate(own)
        ]
        clients = [one for one in made if one is not None]
        if not own:
            schemes = ", ".join(f"{one}://" for one in self._mount.protocols)
            problems.append(f"the plug-in {self._manifest.name} takes {schemes} and no mount is so")
        if problems:
            raise ValidationError("\n".join(problems), cure="Correct the Dataset's mounts.")
        return MountPlan(tuple(clients), request.place, native)

    def desired(self, plan: MountPlan) -> Desired:
        """Its programs."""
        return Desired(
            processes=tuple(one.process for one in plan.clients),
            directories=(plan.place.work, *(one.cache for one in plan.clients)),
        )

    def observe(self, plan: MountPlan, seen: Seen) -> RuntimeState:
        """Ready when all mounts are."""
        for one in plan.clients:
            process = seen.processes.get(one.process.command.name)
            if process is None or not process.ready:
                why = "" if process is None else process.failure
                return RuntimeState(False, why or f"{one.process.command.name} is being started")
        return RuntimeState(ready=True)

    def mount(self, plan: MountPlan) -> tuple[MountDefinition, ...]:
        """What is mounted, and what the worker reads by itself."""
        return (*(one.shown for one in plan.clients), *plan.native)

    def scale(self, plan: MountPlan, replicas: int) -> MountPlan:
        """The programs stay; workers in front of them grow and shrink."""
        return plan

    def load(self, plan: MountPlan, paths: Sequence[str]) -> tuple[Command, ...]:
        """The worker warms."""
        return ()

    def teardown(self, plan: MountPlan) -> Teardown:
        """Nothing but directories is left."""
        return Teardown(remove=(plan.place.cache,))

    def _takes(self, source: MountSource) -> bool:
        return not self._mount.protocols or source.scheme in self._mount.protocols

    def _program(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The arguments, a program beside the manifest by its whole path."""
        first, *rest = arguments
        return (program_of(self._directory, first), *rest)

    def _process(
        self, name: str, target: Path, arguments: Sequence[str], told: _Told
    ) -> LongRunning:
        mount = self._mount
        return LongRunning(
            Command(name, self._program(arguments), told.environment, told.files),
            ExpectedMount(target, mount.filesystem_type, float(mount.ready_seconds)),
            stop_seconds=float(mount.stop_seconds),
            unmount=told.unmount,
            redacted=told.secrets,
            binds=told.binds,
        )

    def _client(
        self, request: RuntimeRequest, index: int, one: MountDefinition, count: int
    ) -> Client:
        source = with_plugin_options(_known_as(self._manifest), _with_thin_options(request, one))
        place = request.place
        target = place.target if count == 1 else _beside(place.target, index)
        folder = place.work / f"{index}"
        values = _Values(source, target, place.cache / f"{index}", folder)
        told = _Told(
            environment=dict(_variables(self._mount, values)),
            files=tuple(values.files()),
            secrets=tuple(source.secrets.values()),
            unmount=tuple(values.arguments(self._mount.unmount)),
        )
        name = self._manifest.name if count == 1 else f"{self._manifest.name} of {one.name}"
        arguments = list(values.arguments(self._mount.command))
        process = self._process(name, target, arguments, told)
        spec = request.dataset.spec
        alone = len(request.mounts) == 1 and not (spec.mounts and spec.mounts[0].path)
        limits = {name: v for name, v in source.options.items() if name in LIMIT_OPTIONS}
        known_by = _identity(self._manifest, source.url, source.options, source.secrets)
        shown = _shown(one.name, "/" if alone else one.path, target, known_by, limits)
        return Client(process, shown, values.cache)

    def _fluid_client(self, request: RuntimeRequest) -> Client:
        one = ThinDeclaration(
            request.dataset,
            request.runtime if isinstance(request.runtime, ThinRuntime) else None,
            request.profile if isinstance(request.profile, ThinRuntimeProfile) else None,
        )
        target, folder = str(request.place.target), request.place.work / "fluid"
        place = FLUID_PLACE if self._own_view else PurePosixPath(folder)
        values = _Values(MountSource("", ""), request.place.target, request.place.cache, folder)
        files = thin_files(one, target, place, request.secrets)
        environment = thin_environment(one, target, request.secrets)
        environment |= dict(_variables(self._mount, values))
        environment[CONFIG_VARIABLE] = str(folder / CONFIG_FILE)
        named = {*one.secret_values, *one.secrets_of_variables}
        secrets = {key: request.secrets[key] for key in named if key in request.secrets}
        told = _Told(
            environment=environment,
            files=tuple(PrivateFile(folder / name, text) for name, text in files.items()),
            secrets=tuple(secrets.values()),
            unmount=tuple(values.arguments(self._mount.unmount)),
            binds=((Path(FLUID_PLACE), folder),) if self._own_view else (),
        )
        arguments = list(values.arguments(self._mount.command))
        process = self._process(self._manifest.name, request.place.target, arguments, told)
        config = {"config": files[CONFIG_FILE].decode("utf-8", "surrogateescape")}
        known_by = _identity(self._manifest, "", config, {str(k): v for k, v in secrets.items()})
        shown = _shown(request.dataset.name, "/", request.place.target, known_by, {})
        return Client(process, shown, request.place.cache)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a program is given beside its arguments."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[PrivateFile, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    unmount: tuple[str, ...] = ()
    binds: tuple[tuple[Path, Path], ...] = ()


class _NotGivenError(Exception):
    """An option that a mount may leave out has been left out."""


@dataclass(frozen=True, slots=True)
class _Values:
    """What placeholders stand for in one mount."""

    source: MountSource
    target: Path
    cache: Path
    folder: Path

    def arguments(self, texts: Sequence[str]) -> Iterator[str]:
        """The arguments; one with an option that is not given is left out.

        Raises ValidationError for a value that the program would take for an option of its own.
        """
        before = ""
        for text in texts:
            lists, before = text.startswith("-o") or before == "-o", text
            try:
                argument = filled(text, self.value)
            except _NotGivenError:
                continue
            if lists and argument.count(",") > text.count(","):
                raise ValidationError(
                    f"mount {self.source.label}: a value for {text!r} has a comma in it, and would "
                    "give the program options of its own",
                    cure="Correct the option; a value holds no ',' in a list of mount options.",
                )
            if "\0" in argument or (argument.startswith("-") and not text.startswith("-")):
                raise ValidationError(
                    f"mount {self.source.label}: {argument[:64]!r} would be read as an option of "
                    "the program",
                    cure="Correct mountPoint or the option; a value begins with no '-' there.",
                )
            yield argument

    def value(self, placeholder: str) -> str:
        """The value of one placeholder, whose name the manifest's check has looked at."""
        head, _, name = placeholder.partition(".")
        source = self.source
        plain = {
            "mountPoint": source.url,
            "source": source.url.partition("://")[2] or source.url,
            "target": str(self.target),
            "cacheDir": str(self.cache),
        }
        if head in plain:
            return plain[head]
        if head == "options" and name in source.secrets:
            raise ValidationError(
                f"mount {source.label}: the option {name} is given by encryptOptions, and all "
                "users of the machine can see it in the program's arguments",
                cure="Give it in options, or declare it as 'secret: true' in the manifest.",
            )
        values = source.options if head == "options" else source.secrets
        if name not in values:
            raise _NotGivenError
        return str(self._secret_file(name)) if head == "secretFile" else values[name]

    def files(self) -> Iterator[PrivateFile]:
        """A file for each secret."""
        for name, value in self.source.secrets.items():
            content = value.encode("utf-8", "surrogateescape")
            yield PrivateFile(self._secret_file(name), content)

    def _secret_file(self, name: str) -> Path:
        return self.folder / name.replace("/", "_")


def program_of(directory: Path, program: str) -> str:
    """The program of a command; one beside the manifest (`./NAME`) by its whole path."""
    if not program.startswith("./"):
        return program
    return str(directory.absolute() / program.removeprefix("./"))


def _beside(target: Path, index: int) -> Path:
    """A target of several: in a folder of its own, as all mounts beside a target end with it."""
    return target.parent / f"{index}" / target.name


def _variables(mount: MountSection, values: _Values) -> Iterator[tuple[str, str]]:
    for name, text in mount.environment.items():
        with suppress(_NotGivenError):
            yield name, filled(text, values.value)


T = TypeVar("T")


def _gather(problems: list[str], act: Callable[[], T]) -> T | None:
    """What `act()` gives; its error's lines go to `problems`."""
    try:
        return act()
    except FluidpyError as error:
        problems += str(error).splitlines()
        return None


def _known_as(manifest: Manifest) -> InstalledPlugin:
    options = (
        InstalledOption(one.name, one.secret, one.required, one.default) for one in manifest.options
    )
    return InstalledPlugin(
        manifest.name, manifest.version, manifest.kind, manifest.protocols, options=tuple(options)
    )


def _with_thin_options(request: RuntimeRequest, one: MountDefinition) -> MountSource:
    """The mount's source, with mount options of profile and runtime where it gives none."""
    options: dict[str, str] = {}
    for resource in (request.profile, request.runtime):
        if (
            isinstance(resource, ThinRuntimeProfile | ThinRuntime)
            and resource.spec.fuse is not None
        ):
            options.update(resource.spec.fuse.options)
    options = {k: v for k, v in options.items() if k not in one.source.secrets}
    return replace(one.source, options={**options, **one.source.options})


def _identity(
    manifest: Manifest, url: str, options: Mapping[str, str], secrets: Mapping[str, str]
) -> str:
    """Text that is another one for another store, another user of it, or other options."""
    parts = [manifest.name, url]
    for values in (options, secrets):
        parts += [text for item in sorted(values.items()) for text in item] + [""]
    return identity_digest(*parts).hex()


def _shown(
    name: str, path: str, target: Path, known_by: str, limits: Mapping[str, str]
) -> MountDefinition:
    options = {**limits, MOUNTED_AS: known_by}
    return MountDefinition(name, path, MountSource(f"{MOUNTED}://{target}", name, options))
