"""Finds the Dataset a command is about: by file, by name, by `fluid://` URL or by a bare URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluidpy.cli.printers import talk
from fluidpy.errors import UsageError
from fluidpy.settings import Settings, load_settings

if TYPE_CHECKING:
    from fluidpy.api.problem import LoadedObject
    from fluidpy.client.locate import Found
    from fluidpy.client.session import DatasetSession
    from fluidpy.namespace.definition import DatasetDefinition

# A scheme as RFC 3986 §3.1 spells it.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME = "fluid://"


@dataclass(frozen=True, slots=True)
class DatasetPath:
    """A path inside a Dataset, as `fluid://NAME[.NAMESPACE]/PATH` names it."""

    dataset: str
    namespace: str | None
    path: str

    def __str__(self) -> str:
        host = f"{self.dataset}.{self.namespace}" if self.namespace else self.dataset
        return f"{_SCHEME}{host}/{self.path}"


def is_url(text: str) -> bool:
    """Whether a word of the command line is a URL rather than a Dataset's name."""
    return bool(_URL.match(text))


def parse_dataset_url(url: str) -> DatasetPath:
    """The parts of a `fluid://` URL. Raises UsageError for anything else."""
    if not url.startswith(_SCHEME):
        raise UsageError(f"{url} is not a fluid:// URL", cure=f"Write {_SCHEME}NAME/PATH")
    host, _, path = url[len(_SCHEME) :].partition("/")
    name, _, namespace = host.partition(".")
    if not name:
        raise UsageError(f"{url} names no Dataset", cure=f"Write {_SCHEME}NAME/PATH")
    return DatasetPath(name, namespace or None, path.strip("/"))


def yaml_source(file: Path) -> Path | str:
    """A file as the YAML loader takes it, to which the text `-` is standard input."""
    return "-" if str(file) == "-" else file


def define_from_file(
    file: Path,
    dataset: str | None,
    namespace: str | None,
    settings: Settings,
    *,
    say_unserved: bool = False,
) -> DatasetDefinition:
    """The Dataset that a YAML file declares; warnings go to stderr.

    With `say_unserved` also what the file declares and this machine does not do.
    Raises ValidationError listing every problem of the file, UsageError when it cannot be read.
    """
    from fluidpy.api.document import load_valid_documents
    from fluidpy.namespace.resolve import resolve_dataset

    loaded = load_valid_documents(yaml_source(file))
    for problem in loaded.warnings:
        talk(f"warning: {problem}")
    resolved = resolve_dataset(
        loaded.objects,
        dataset=dataset,
        namespace=namespace,
        settings=settings,
        environ=os.environ,
        base_directory=_directory_of(file),
    )
    _refuse_what_a_runtime_mounts(resolved.definition, loaded.objects, file, settings)
    for warning in resolved.warnings:
        talk(f"warning: {warning}")
    if say_unserved:
        from fluidpy.namespace.resolve_unserved import unserved

        definition = resolved.definition
        for problem in unserved(loaded.objects, definition.namespace, definition.name):
            talk(f"warning: {problem}")
    return resolved.definition


def _refuse_what_a_runtime_mounts(
    definition: DatasetDefinition,
    objects: Sequence[LoadedObject],
    file: Path,
    settings: Settings,
) -> None:
    """Raises UsageError for a Dataset whose ThinRuntime's program has to mount it first."""
    key = (definition.namespace, definition.name)
    thin = (o.object for o in objects if o.object.kind == "ThinRuntime")
    if not any((one.namespace, one.name) == key for one in thin):
        return
    from fluidpy.storage.fsspec_storage import known_protocols
    from fluidpy.storage.plugins import installed_plugins
    from fluidpy.storage.source_check import known_schemes

    plugins = installed_plugins(settings.plugin_folders)
    read = {scheme for one in plugins if one.kind == "storage" for scheme in one.protocols}
    read |= {"dataset", *known_schemes(), *known_protocols()}
    for mount in definition.mounts:
        if mount.source.scheme not in read:
            words = "" if str(file) == "-" else f" {file}"
            raise UsageError(
                f"mount {mount.name}: {mount.source.scheme}:// is mounted by the program of the "
                f"ThinRuntime {definition.name}, which the control plane keeps",
                cure=f"Apply it, then name the Dataset: fluidpy up; fluidpy apply -f{words}; "
                f"fluidpy mount {definition.name} DIR (or fluidpy load {definition.name}).",
            )


def _directory_of(file: Path) -> Path:
    """What relative paths in a file are relative to."""
    if str(file) == "-":
        return Path.cwd()
    return file.resolve() if file.is_dir() else file.resolve().parent


def define_from_url(url: str, options: Mapping[str, str]) -> DatasetDefinition:
    """The Dataset that stands for one bare URL such as `s3://bucket/prefix`.

    Warnings go to stderr. Raises UsageError, SourceConfigurationError.
    """
    from fluidpy.namespace.resolve import resolve_url
    from fluidpy.storage.source_check import check_source

    definition = resolve_url(url, options)
    for mount in definition.mounts:
        for warning in check_source(mount.source, load_settings()):
            talk(f"warning: {warning}")
    return definition


def define(
    name: str | None,
    file: Path | None,
    namespace: str | None,
    settings: Settings,
    *,
    say_unserved: bool = False,
) -> Found:
    """The Dataset that `-f FILE [NAME]` or `NAME` means, or the name of a mounted one.

    Raises UsageError when neither is given, DatasetNotFoundError.
    """
    if file is not None:
        return define_from_file(file, name, namespace, settings, say_unserved=say_unserved)
    if name is None:
        raise UsageError("no Dataset is named", cure="Give NAME, or -f FILE.")
    from fluidpy.client.locate import locate_dataset

    return locate_dataset(name, namespace, settings)


@contextmanager
def session_of(
    name: str | None,
    file: Path | None,
    namespace: str | None = None,
    *,
    say_unserved: bool = False,
) -> Iterator[DatasetSession]:
    """A session on the Dataset, closed at the end; a worker is started if none runs."""
    from fluidpy.client.session import DatasetSession

    settings = load_settings()
    found = define(name, file, namespace, settings, say_unserved=say_unserved)
    session = DatasetSession(found, settings)
    try:
        yield session
    finally:
        session.close()
