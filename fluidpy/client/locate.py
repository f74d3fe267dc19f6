"""Finding a Dataset by its name, as `fluid://DATASET[.NAMESPACE]/…` gives it.

In this order: the YAML file (or folder) that was named, the folders of YAML in `$FLUIDPY_PATH`, the
Datasets this user has mounted, the control plane. YAML is read only when a Dataset is looked for,
and only then is pydantic imported. A mounted Dataset is found by its name in the worker: what is
mounted counts, not what its file says by now.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from fluidpy.client.managed import ManagedDataset, find_managed, managed_names
from fluidpy.errors import DatasetNotFoundError, ValidationError
from fluidpy.settings import Settings, load_settings

if TYPE_CHECKING:
    from fluidpy.api.problem import LoadedObject
    from fluidpy.namespace.definition import DatasetDefinition

PATH_VARIABLE: Final = "FLUIDPY_PATH"
"""Folders of YAML files, separated by `os.pathsep`."""

DEFAULT_NAMESPACE: Final = "default"

Found: TypeAlias = "DatasetDefinition | str | ManagedDataset"
"""A definition, the name `namespace/name` of one that the worker knows since it is mounted, or a
Dataset of the control plane."""


@dataclass(frozen=True, slots=True)
class _Mounted:
    """What a mount record says of a mounted Dataset."""

    name: str
    namespace: str


@dataclass
class _Search:
    """What a search has seen so far, for the error when it finds nothing."""

    places: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Locator:
    """Where to look for Datasets."""

    settings: Settings
    file: Path | None = None
    namespace: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @classmethod
    def from_options(
        cls, file: str | None, namespace: str | None, overrides: Mapping[str, str]
    ) -> Locator:
        """For `storage_options`; `overrides` are directories in place of the settings'."""
        directories = {name: Path(value).expanduser() for name, value in overrides.items()}
        settings = replace(load_settings(), **directories)  # type: ignore[arg-type]  # paths only
        return cls(settings, Path(file).expanduser() if file else None, namespace)

    def find(self, dataset: str) -> Found:
        """The Dataset `NAME` or `NAME.NAMESPACE`.

        Raises DatasetNotFoundError naming the places looked at, ValidationError when its YAML is
        wrong.
        """
        name, _, namespace = dataset.partition(".")
        wanted = namespace or self.namespace
        search = _Search()
        for place in self._yaml_places():
            if (definition := self._in_yaml(place, name, wanted, search)) is not None:
                return definition
        if self.file is None and (mounted := self._mounted(name, wanted, search)) is not None:
            return f"{mounted.namespace}/{mounted.name}"
        if self.file is None:
            search.places.append("the control plane")
            if (managed := find_managed(name, wanted, self.settings)) is not None:
                return managed
            search.names |= {_spell(one, at) for at, one in managed_names(self.settings)}
        raise _not_found(dataset, search)

    def names(self) -> list[str]:
        """All Datasets that can be found, as URLs name them."""
        search = _Search()
        for place in self._yaml_places():
            if place.exists():
                for one in _load(place, search):
                    _note(one, search)
        if self.file is None:
            for mounted in self._mounts():
                search.names.add(_spell(mounted.name, mounted.namespace))
            search.names |= {_spell(one, at) for at, one in managed_names(self.settings)}
        return sorted(search.names)

    def _yaml_places(self) -> Iterator[Path]:
        if self.file is not None:
            yield self.file
            return
        for folder in self.environ.get(PATH_VARIABLE, "").split(os.pathsep):
            if folder:
                yield Path(folder).expanduser()

    def _in_yaml(
        self, place: Path, name: str, namespace: str | None, search: _Search
    ) -> DatasetDefinition | None:
        search.places.append(str(place))
        if not place.exists():
            search.broken.append(f"{place} does not exist")
            return None
        objects = _load(place, search)
        for one in objects:
            _note(one, search)
        found = [one for one in objects if _is(one, name, namespace)]
        if not found:
            return None
        from fluidpy.namespace.resolve import resolve_dataset

        resolved = resolve_dataset(
            objects,
            dataset=name,
            namespace=namespace,
            settings=self.settings,
            environ=self.environ,
            base_directory=Path(found[0].file).resolve().parent,
        )
        return resolved.definition

    def _mounted(self, name: str, namespace: str | None, search: _Search) -> _Mounted | None:
        search.places.append("the Datasets that are mounted")
        found = set()
        for mounted in self._mounts():
            search.names.add(_spell(mounted.name, mounted.namespace))
            if mounted.name == name and namespace in (None, mounted.namespace):
                found.add(mounted)
        if len(found) > 1:
            spelled = sorted(_spell(one.name, one.namespace) for one in found)
            raise ValidationError(
                f"{name} is mounted from several namespaces: {', '.join(spelled)}",
                cure=f"Write {name}.NAMESPACE.",
            )
        return next(iter(found), None)

    def _mounts(self) -> Iterator[_Mounted]:
        if not self.settings.mounts_dir.is_dir():
            return
        for record in sorted(self.settings.mounts_dir.glob("*.json")):
            try:
                values = json.loads(record.read_bytes())
                if not values.get("managed") and _is_alive(values["holderPid"]):
                    yield _Mounted(str(values["dataset"]), str(values["namespace"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # unmounted just now, or not a record; `doctor` reports those


def locate_dataset(name: str, namespace: str | None, settings: Settings) -> Found:
    """The Dataset of that name, by `$FLUIDPY_PATH` and mounts. Raises as `Locator.find`."""
    return Locator(settings, namespace=namespace).find(name)


def _load(place: Path, search: _Search) -> list[LoadedObject]:
    """The objects of a file or folder. Raises ValidationError when a named file is wrong.

    In a folder, wrong files are passed over, and noted.
    """
    from fluidpy.api.document import load_documents

    result = load_documents(place)
    if place.is_dir():
        files = dict.fromkeys(problem.file for problem in result.problems)
        search.broken.extend(f"{file} is not valid" for file in files)
        return [one for one in result.objects if one.file not in files]
    result.raise_problems()
    return result.objects


def _is(one: LoadedObject, name: str, namespace: str | None) -> bool:
    metadata = one.object.metadata
    if one.object.kind != "Dataset" or metadata.name != name:
        return False
    return namespace in (None, metadata.namespace or DEFAULT_NAMESPACE)


def _note(one: LoadedObject, search: _Search) -> None:
    if one.object.kind == "Dataset":
        metadata = one.object.metadata
        search.names.add(_spell(metadata.name, metadata.namespace or DEFAULT_NAMESPACE))


def _spell(name: str, namespace: str) -> str:
    return name if namespace == DEFAULT_NAMESPACE else f"{name}.{namespace}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _not_found(dataset: str, search: _Search) -> DatasetNotFoundError:
    places = "; ".join(search.places)
    broken = f" ({'; '.join(search.broken)})" if search.broken else ""
    near = difflib.get_close_matches(dataset, sorted(search.names), n=1)
    cure = (
        "Name its YAML file (-f FILE; in Python storage_options={'file': FILE}), "
        f"set {PATH_VARIABLE} to folders of YAML, mount it, or apply it (`fluidpy up`)."
    )
    if near:
        cure = f"Did you mean {near[0]}?"
    return DatasetNotFoundError(
        f"no Dataset {dataset}; looked in {places or 'no place'}{broken}", cure=cure
    )
