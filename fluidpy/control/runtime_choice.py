"""Which driver serves a Dataset, and what the worker then reads. Pure, but for plug-ins' files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fluidpy.api.dataset import Dataset
from fluidpy.api.metadata import Resource
from fluidpy.api.quantity import parse_quantity
from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.cache.tier import SMALLEST_QUOTA, TierDefinition
from fluidpy.control.runtime_keeper import Assignment
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.runtime.discovery import Plugin, discover, driver_of, plugin_for
from fluidpy.runtime.driver import (
    EmbeddedDriver,
    EngineDriver,
    RuntimeDriver,
    RuntimeRequest,
)
from fluidpy.settings import Settings
from fluidpy.storage.source_check import ENGINE_SCHEMES, check_source

_log = logging.getLogger(__name__)

UNKEPT_FOLDER: Final = "unkept"
"""In the state directory: the tier, too small for any file, of Datasets that an engine caches."""


FRONT_ANNOTATION: Final = "fluidpy.io/cache-in-front"
"""On the runtime of an engine: the size of a cache of fluidpy's own in front of the engine's."""

FRONT_FOLDER: Final = "in-front"
"""In the state directory: those caches."""

ENGINE_TTL_SECONDS: Final = 10.0
"""How long listings of an engine's mount count as fresh where nothing is declared. Asking is cheap,
as the engine is on this machine, but a folder of 100,000 names takes seconds still."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The driver of a runtime; `missing` says why it is fluidpy's own although another is asked."""

    driver: RuntimeDriver
    plugin: str = ""
    missing: str = ""
    image: str = ""
    """The image that is declared, and not run: the plug-in's program is."""

    @property
    def is_own(self) -> bool:
        """Whether the worker reads the sources itself."""
        return isinstance(self.driver, EmbeddedDriver)


class RuntimeChooser:
    """Chooses by the plug-ins that are known when it is made."""

    def __init__(self, settings: Settings) -> None:
        """Looks for plug-ins when the first runtime asks for one."""
        self._settings = settings
        self._plugins: dict[str, Plugin] | None = None

    def choose(self, runtime: Resource, profile: Resource | None, schemes: Sequence[str]) -> Choice:
        """The driver of a runtime whose Dataset's mounts have these schemes.

        Raises RuntimePluginError for a plug-in that cannot be loaded.
        """
        plugin = plugin_for(self._known(), runtime, profile)
        engine = None if plugin is None else plugin.manifest.engine
        if plugin is not None and engine is not None and not set(schemes) & set(engine.protocols):
            forms = ", ".join(f"{scheme}://" for scheme in engine.protocols)
            return Choice(EmbeddedDriver(), missing=f"{plugin.name} reads {forms} only")
        if missing := self.missing(runtime, profile):
            read_here = set(schemes) & self._storage_schemes()
            return Choice(EmbeddedDriver(), missing="" if read_here else missing)
        driver = driver_of(plugin)
        if isinstance(driver, EngineDriver) and (missing := driver.missing()):
            return Choice(EmbeddedDriver(), missing=missing)
        image = image_of(runtime, profile) if plugin is not None else ""
        return Choice(driver, "" if plugin is None else plugin.name, image=image)

    def is_mounted(self, runtime: Resource, profile: Resource | None) -> bool:
        """Whether a mount plug-in serves it: its sources are then that plug-in's to check."""
        plugin = plugin_for(self._known(), runtime, profile)
        return plugin is not None and plugin.manifest.mount is not None

    def missing(self, runtime: Resource, profile: Resource | None) -> str:
        """Why no plug-in serves a ThinRuntime that asks for one; empty if one does."""
        if not isinstance(runtime, ThinRuntime) or not runtime.spec.profile_name:
            return ""
        if plugin_for(self._known(), runtime, profile) is not None:
            return ""
        image = image_of(runtime, profile)
        unused = f"; images such as {image} are not run on one machine" if image else ""
        return (
            f"no mount plug-in {runtime.spec.profile_name} is installed here (fluidpy runtime "
            f"install DIR){unused}"
        )

    def _storage_schemes(self) -> set[str]:
        """Schemes that storage plug-ins read, whatever runtime is named."""
        found = (one.manifest.storage for one in self._known().values())
        return {scheme for one in found if one is not None for scheme in one.protocols}

    def _known(self) -> dict[str, Plugin]:
        if self._plugins is None:
            found = discover(self._settings)
            for problem in found.problems:
                _log.warning("a plug-in is left out: %s", problem)
            self._plugins = dict(found.plugins)
        return self._plugins


def image_of(runtime: Resource, profile: Resource | None) -> str:
    """The image of the client that a ThinRuntime or its profile names; empty if neither does."""
    for one in (runtime, profile):
        if isinstance(one, ThinRuntime | ThinRuntimeProfile):
            fuse = one.spec.fuse
            if fuse is not None and fuse.image:
                return f"{fuse.image}:{fuse.image_tag}" if fuse.image_tag else fuse.image
    return ""


def assigned(
    choice: Choice, request: RuntimeRequest, definition: DatasetDefinition, state_dir: Path
) -> tuple[Assignment | None, DatasetDefinition]:
    """What is to run for a Dataset, and its definition with what the worker then reads.

    Raises ValidationError for what the driver cannot serve.
    """
    if choice.is_own:
        _check_served_here(request.dataset, definition, choice.missing)
        return None, definition
    plan = choice.driver.prepare(request)
    read = replace(definition, mounts=choice.driver.mount(plan))
    if isinstance(choice.driver, EngineDriver):
        ttl = read.metadata_ttl_seconds
        ttl = ENGINE_TTL_SECONDS if ttl is None else ttl
        tier = _tier_before(request, state_dir)
        read = replace(read, tiers=(tier,), metadata_ttl_seconds=ttl)
    return Assignment(choice.driver, plan, request.place), read


def keeps_bytes(definition: DatasetDefinition) -> bool:
    """Whether workers keep what they read of a Dataset that an engine caches."""
    return any(tier.quota_bytes > SMALLEST_QUOTA for tier in definition.tiers)


def _tier_before(request: RuntimeRequest, state_dir: Path) -> TierDefinition:
    """The cache in front of an engine's: none unless asked for, since it takes room once more.

    Raises ValidationError.
    """
    annotations = {} if request.runtime is None else request.runtime.metadata.annotations
    text = annotations.get(FRONT_ANNOTATION)
    if text is None:
        return TierDefinition(str(state_dir / UNKEPT_FOLDER), SMALLEST_QUOTA)
    try:
        quota = parse_quantity(text)
    except ValueError as error:
        raise ValidationError(
            f"annotation {FRONT_ANNOTATION}: {error}", cure="Write a size such as 20Gi."
        ) from error
    folder = f"{request.dataset.namespace}.{request.dataset.name}"
    return TierDefinition(str(state_dir / FRONT_FOLDER / folder), max(quota, SMALLEST_QUOTA))


def _check_served_here(dataset: Dataset, definition: DatasetDefinition, missing: str) -> None:
    for mount in definition.mounts:
        if missing and mount.source.scheme not in (*ENGINE_SCHEMES, "dataset"):
            check_source(mount.source, None)
        if mount.source.scheme in ENGINE_SCHEMES:
            why = missing or f"no runtime of an engine is named {dataset.name}"
            raise ValidationError(
                f"mount {mount.name}: {mount.source.scheme}:// is read through its engine, and "
                f"{why}",
                cure="Declare a JuiceFSRuntime of the Dataset's name, and install what is missing.",
            )
