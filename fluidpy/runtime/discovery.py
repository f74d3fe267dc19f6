"""Where plug-ins are found, and which one serves a runtime object.

In this order, the first of a name wins: the folders of `FLUIDPY_RUNTIME_PATH`, what
`fluidpy runtime install` put into `runtimes` of the state directory, and packages with an entry
point of the group `fluidpy.runtimes` (its value is a package that has `runtime.yaml` in it), and
the engines that fluidpy brings.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias

from fluidpy.api.metadata import Resource
from fluidpy.api.runtimes.cache import CacheRuntime, CacheRuntimeClass
from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.errors import FluidpyError, RuntimePluginError, ValidationError
from fluidpy.runtime.driver import EmbeddedDriver, RuntimeDriver
from fluidpy.runtime.manifest import FILE_NAME, Manifest, load_manifest
from fluidpy.settings import Settings
from fluidpy.storage.plugins import PACKAGES_GROUP, PLUGIN_FOLDER, add_to_path, is_settled

Changed: TypeAlias = tuple[int, int, int] | None

_OWN = Path(__file__).parent
"""Engines that fluidpy brings lie beside this module."""

INSTALLED, RUNTIME_PATH, OWN = "installed", "FLUIDPY_RUNTIME_PATH", "fluidpy"
"""Origins of plug-ins beside the names of packages."""
PLUGIN_ANNOTATION = "fluidpy.io/plugin"
"""On a ThinRuntimeProfile or CacheRuntimeClass: the name of the plug-in that serves it."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plug-in that was found."""

    manifest: Manifest
    directory: Path
    """Where `runtime.yaml` lies, and what goes with it."""
    origin: str
    """How it was found, for people: `installed`, `FLUIDPY_RUNTIME_PATH`, or a package's name."""

    @property
    def name(self) -> str:
        """Its name in the manifest."""
        return self.manifest.name

    @property
    def is_packaged(self) -> bool:
        """Whether it came with an installed package other than fluidpy."""
        return self.origin not in (INSTALLED, RUNTIME_PATH, OWN)


@dataclass(frozen=True, slots=True)
class Discovered:
    """All plug-ins by name, and what is wrong with those that cannot be used."""

    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def discover(settings: Settings) -> Discovered:
    """Every plug-in of this user. One that is broken is told of and hides no other."""
    plugins: dict[str, Plugin] = {}
    problems: list[str] = []
    for origin, directory in _candidates(settings, problems):
        try:
            manifest = _manifest_in(directory)
        except ValidationError as error:
            problems.append(error.message)
            continue
        plugins.setdefault(manifest.name, Plugin(manifest, directory, origin))
    return Discovered(plugins, tuple(problems))


def _candidates(settings: Settings, problems: list[str]) -> Iterator[tuple[str, Path]]:
    for folder in settings.plugin_folders:
        origin = INSTALLED if folder == settings.plugins_dir else RUNTIME_PATH
        if origin != INSTALLED and not folder.is_dir():
            problems.append(f"FLUIDPY_RUNTIME_PATH: {folder} is no folder")
        yield from ((origin, one) for one in _plugin_folders(folder))
    for point in _entry_points():
        package = point.dist.name if point.dist is not None else point.value
        try:
            places = _places_of(point.value)
        except (ImportError, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
            problems.append(
                f"{package}: its entry point {point.name} cannot be followed: "
                f"{type(error).__name__}: {error}"
            )
            continue
        if not places:
            problems.append(f"{package}: its entry point {point.name} names no package")
        yield from ((package, Path(place)) for place in places[:1])
    yield from ((OWN, one.parent) for one in sorted(_OWN.glob(f"*/{FILE_NAME}")))


def _places_of(package: str) -> list[str]:
    """Where a package lies, without running it: what it prints or raises is not asked for."""
    top, *inner = package.split(".")
    found, name = importlib.util.find_spec(top), top
    for part in inner:
        name = f"{name}.{part}"
        if found is not None:
            found = PathFinder.find_spec(name, list(found.submodule_search_locations or ()))
    return [] if found is None else list(found.submodule_search_locations or ())


def _manifest_in(directory: Path) -> Manifest:
    """The manifest of a folder, read again when its file has changed. Raises ValidationError."""
    changed = _changed_at(directory / FILE_NAME)
    read = _manifest_as_of if _is_settled(changed) else _manifest_as_of.__wrapped__
    return read(directory, changed)


@lru_cache(maxsize=256)
def _manifest_as_of(directory: Path, _: Changed) -> Manifest:
    """Reading one takes 20 ms; a control plane looks whenever a Dataset is declared."""
    return load_manifest(directory)


def _entry_points() -> tuple[EntryPoint, ...]:
    """Those of all packages; installing one changes its folder of `sys.path`."""
    changed = tuple((place, _changed_at(Path(place))) for place in sys.path)
    settled = all(_is_settled(one) for _, one in changed)
    return (_entry_points_as_of if settled else _entry_points_as_of.__wrapped__)(changed)


@lru_cache(maxsize=1)
def _entry_points_as_of(_: tuple[tuple[str, Changed], ...]) -> tuple[EntryPoint, ...]:
    importlib.invalidate_caches()  # of folders, which take changes within a tick for none
    return tuple(entry_points(group=PACKAGES_GROUP))


def _changed_at(path: Path) -> Changed:
    """Inode, size and time of change, by which a file or folder is known to be as it was."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_ctime_ns


def _is_settled(changed: Changed) -> bool:
    return changed is None or is_settled(changed[2])


def _plugin_folders(folder: Path) -> list[Path]:
    """The folder itself, or those below it that have a manifest, installed or as written."""
    if (folder / FILE_NAME).is_file():
        return [folder]
    as_written = folder.glob(f"*/{FILE_NAME}")
    installed = folder.glob(f"*/{PLUGIN_FOLDER}/{FILE_NAME}")
    return sorted(file.parent for file in (*as_written, *installed))


def plugin_named(found: Discovered, name: str) -> Plugin:
    """The plug-in of that name. Raises RuntimePluginError with those that are there."""
    if name in found.plugins:
        return found.plugins[name]
    known = ", ".join(sorted(found.plugins)) or "none"
    raise RuntimePluginError(
        f"no runtime plug-in {name} is known here (known: {known})",
        cure="`fluidpy runtime install DIR` makes one known.",
    )


def plugin_for(
    plugins: Mapping[str, Plugin], runtime: Resource | None, profile: Resource | None
) -> Plugin | None:
    """The plug-in that a runtime object asks for; None leaves it to fluidpy's own engine. Pure.

    A ThinRuntime's is that which its profile names by annotation, by its own name, or by its
    `fileSystemType`; a CacheRuntime's likewise by its class; other kinds have an engine that names
    them in its manifest.
    """
    if isinstance(runtime, CacheRuntime):
        wanted = runtime.spec.runtime_class_name
    elif isinstance(runtime, ThinRuntime):
        wanted = runtime.spec.profile_name
    else:
        return None if runtime is None else _engine_for(plugins, runtime.kind)
    if profile is not None and (named := profile.metadata.annotations.get(PLUGIN_ANNOTATION)):
        return plugins.get(named)
    if wanted in plugins:
        return plugins[wanted]
    kind = _filesystem_type(profile)
    return next((one for one in plugins.values() if kind and _mounts(one.manifest, kind)), None)


def _filesystem_type(profile: Resource | None) -> str:
    if isinstance(profile, ThinRuntimeProfile):
        return profile.spec.file_system_type
    return profile.file_system_type if isinstance(profile, CacheRuntimeClass) else ""


def _mounts(manifest: Manifest, filesystem_type: str) -> bool:
    return manifest.mount is not None and manifest.mount.filesystem_type == filesystem_type


def _engine_for(plugins: Mapping[str, Plugin], kind: str) -> Plugin | None:
    for one in plugins.values():
        if one.manifest.engine is not None and kind in one.manifest.engine.runtime_kinds:
            return one
    return None


def driver_of(plugin: Plugin | None) -> RuntimeDriver:
    """The driver of a plug-in; None stands for fluidpy's own engine. Raises RuntimePluginError.

    A mount plug-in's driver is made by `fluidpy.runtime.mount_driver`, from its manifest.
    """
    if plugin is None or plugin.manifest.storage is not None:
        return EmbeddedDriver()
    if plugin.manifest.engine is not None:
        return _engine_driver(plugin, plugin.manifest.engine.class_)
    module = importlib.import_module("fluidpy.runtime.mount_driver")
    driver: RuntimeDriver = module.MountDriver(plugin.manifest, plugin.directory)
    return driver


def _engine_driver(plugin: Plugin, spec: str) -> RuntimeDriver:
    """The engine's own class, called without arguments."""
    made = load_class(plugin, spec)()
    if not isinstance(made, RuntimeDriver):
        raise RuntimePluginError(
            f"{spec} of the plug-in {plugin.name} is no RuntimeDriver",
            cure="Give it the methods of fluidpy.runtime.driver.RuntimeDriver.",
        )
    return made


def load_class(plugin: Plugin, spec: str) -> Any:
    """`MODULE:NAME` of a plug-in, imported. Raises RuntimePluginError saying what is missing."""
    module, _, name = spec.partition(":")
    if not module.startswith("fluidpy."):
        add_to_path([plugin.directory, plugin.directory.parent / "site"], sys.path)
    try:
        return getattr(importlib.import_module(module), name)
    except FluidpyError:
        raise
    except Exception as error:
        raise RuntimePluginError(
            f"{spec} of the plug-in {plugin.name} cannot be loaded: {error}",
            cure=f"Mend the package in {plugin.directory}, and install it again.",
        ) from error
