"""Runtime plug-ins that were installed with `fluidpy runtime install`, as the worker sees them.

Installing writes a record beside the plug-in's files (`runtimes/NAME/installed.json` in the state
directory), so that the worker reads neither YAML nor manifests. Records are looked up when a mount
is opened: a running worker knows what was installed a moment ago. Of plug-ins in packages, another
process reads the manifests, once for each change of the import path. What it has imported it
keeps; a new version of the same plug-in is seen by the next worker.
"""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fluidpy.errors import SourceConfigurationError
from fluidpy.storage.local_files import SETTLED_NS
from fluidpy.storage.option_names import LIMIT_OPTIONS
from fluidpy.storage.under_storage import MountSource

PLUGIN_FOLDER = "plugin"
"""In a plug-in's place: the copy of its folder."""
SITE_FOLDER = "site"
"""In a plug-in's place: packages that it needs and that are not installed here."""
RECORD_FILE = "installed.json"
PACKAGES_GROUP = "fluidpy.runtimes"
"""Entry points of packages that have a `runtime.yaml`."""
_PACKAGES_SECONDS = 30.0
"""How long reading the manifests of packages may take."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InstalledOption:
    """An option of the plug-in; see `fluidpy.runtime.manifest.PluginOption`."""

    name: str
    secret: bool = False
    required: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """What is known of an installed plug-in."""

    name: str
    version: str
    kind: str
    """`storage`; plug-ins of other kinds are read through what they mount."""
    protocols: tuple[str, ...]
    class_name: str = ""
    """`MODULE:NAME` of a storage plug-in."""
    options: tuple[InstalledOption, ...] = ()
    path: tuple[Path, ...] = field(default=(), compare=False)
    """Directories to import from."""

    def to_record(self) -> dict[str, Any]:
        """Plain values for the record; without the path, which follows from where it lies."""
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "protocols": list(self.protocols),
            "class": self.class_name,
            "options": [
                {"name": o.name, "secret": o.secret, "required": o.required, "default": o.default}
                for o in self.options
            ],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], place: Path) -> InstalledPlugin:
        """The plug-in of a record that lies in `place`."""
        return cls(
            name=record["name"],
            version=record["version"],
            kind=record["kind"],
            protocols=tuple(record["protocols"]),
            class_name=record["class"],
            options=tuple(InstalledOption(**one) for one in record["options"]),
            path=(place / PLUGIN_FOLDER, place / SITE_FOLDER),
        )


def installed_plugins(folders: Iterable[Path]) -> list[InstalledPlugin]:
    """The plug-ins installed in these folders, then storage plug-ins of packages; the first of a
    name. Packages that cannot be read are logged and hide no other plug-in.

    Raises SourceConfigurationError for a record that cannot be read.
    """
    found: dict[str, InstalledPlugin] = {}
    for file in [one for folder in folders for one in sorted(folder.glob(f"*/{RECORD_FILE}"))]:
        try:
            one = InstalledPlugin.from_record(json.loads(file.read_bytes()), file.parent)
            found.setdefault(one.name, one)
        except FileNotFoundError:
            continue  # removed meanwhile
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceConfigurationError(
                f"{file} cannot be read: {error}",
                cure=f"`fluidpy runtime remove {file.parent.name}`, then install it again.",
            ) from error
    for one in _packages()[0]:
        found.setdefault(one.name, one)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class PluginsIn:
    """The same, looked up each time someone goes through them: most Datasets need none of them."""

    folders: tuple[Path, ...]

    def __iter__(self) -> Iterator[InstalledPlugin]:
        return iter(installed_plugins(self.folders))


def problem_of_packages() -> str:
    """Why plug-ins of packages are not known; empty when nothing is wrong."""
    return _packages()[1]


def is_settled(changed_ns: int) -> bool:
    """Whether a change after that moment (epoch nanoseconds) shows by another time of change."""
    return abs(time.time_ns() - changed_ns) > SETTLED_NS


def _packages() -> tuple[tuple[InstalledPlugin, ...], str]:
    """Of a folder that changed just now another change may not show: it is read anew."""
    path = tuple((place, _changed_at(place)) for place in sys.path)
    if all(is_settled(at) for _, at in path):
        return _packaged(path)
    importlib.invalidate_caches()  # of folders, which take changes within a tick for none
    return _packaged.__wrapped__(path)


def _changed_at(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _packaged(_: tuple[tuple[str, int], ...]) -> tuple[tuple[InstalledPlugin, ...], str]:
    """Installing a package changes its folder of `sys.path`; mostly there is none of these.

    A failure is kept as well: asking again takes as long, and comes to the same.
    """
    if not entry_points(group=PACKAGES_GROUP):
        return (), ""
    import subprocess  # of use to few, and to no training process

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fluidpy.runtime.packaged"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PACKAGES_SECONDS,
            check=True,
        )
        answer = done.stdout.strip().rpartition(b"\n")[2]  # the start of Python may print, too
        return tuple(map(_of_package, json.loads(answer))), ""
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        said = bytes(getattr(error, "stderr", None) or b"").decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), str(error))
        problem = f"the plug-ins of installed packages cannot be read: {last}"
        _tell(problem)
        return (), problem


@lru_cache(maxsize=16)
def _tell(problem: str) -> None:
    """Once is enough."""
    _LOG.warning("%s", problem)


def _of_package(record: Mapping[str, Any]) -> InstalledPlugin:
    found = InstalledPlugin.from_record(record, Path())
    return replace(found, path=(Path(record["directory"]),))


def plugin_of_scheme(plugins: Iterable[InstalledPlugin], scheme: str) -> InstalledPlugin | None:
    """The plug-in that reads URLs of a scheme; one of kind storage before others."""
    found = [one for one in plugins if scheme in one.protocols]
    return min(found, key=lambda one: one.kind != "storage", default=None)


def with_plugin_options(plugin: InstalledPlugin, source: MountSource) -> MountSource:
    """The source with the plug-in's defaults. Raises SourceConfigurationError with all mistakes.

    Options the plug-in does not declare are refused, as are secrets in the clear.
    """
    declared = {one.name: one for one in plugin.options}
    own = {*LIMIT_OPTIONS}
    problems = []
    for name in (*source.options, *source.secrets):
        if name not in declared and name not in own:
            close = difflib.get_close_matches(name, [*declared, *own], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            problems.append(f"unknown option {name}{hint}")
    for name, one in declared.items():
        if one.secret and name in source.options:
            problems.append(f"{name} is a secret and stands in options")
        elif one.required and name not in source.options and name not in source.secrets:
            problems.append(f"{name} is missing")
    if problems:
        secret = any(one.secret for one in plugin.options)
        cure = "Correct the mount's options" + (" or encryptOptions" if secret else "")
        raise SourceConfigurationError(
            f"mount {source.label or source.url}: {'; '.join(problems)}",
            cure=f"{cure}; {plugin.name} takes {', '.join(declared) or 'none'}.",
        )
    defaults = {
        name: one.default
        for name, one in declared.items()
        if one.default is not None and name not in source.secrets
    }
    return replace(source, options={**defaults, **source.options})


def load_plugin_class(plugin: InstalledPlugin) -> Any:
    """What reads the store: an fsspec class, or a maker of under storages.

    Raises SourceConfigurationError when it cannot be imported.
    """
    if plugin.kind != "storage":
        raise SourceConfigurationError(
            f"the plug-in {plugin.name} mounts a store, and a worker reads none by itself",
            cure="Declare a runtime that names the plug-in, beside the Dataset.",
        )
    module, _, name = plugin.class_name.partition(":")
    add_to_path(plugin.path, sys.path)
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a foreign module may raise anything
        raise SourceConfigurationError(
            f"the plug-in {plugin.name} {plugin.version} cannot be loaded: "
            f"{type(error).__name__}: {error}",
            cure="Mend it and `fluidpy runtime install` it again; `fluidpy runtime test` shows "
            "what is wrong.",
        ) from error


def add_to_path(folders: Iterable[Path], path: list[str]) -> None:
    """Puts folders at the end of an import path, where they hide nothing that is installed."""
    for folder in folders:
        if str(folder) not in path and folder.is_dir():
            path.append(str(folder))
            importlib.invalidate_caches()
