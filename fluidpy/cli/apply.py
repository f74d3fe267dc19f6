"""`apply`: declares the objects of files; all are checked before any is changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fluidpy.cli.datasets import yaml_source
from fluidpy.cli.options import NamespaceOption, OutputFormat, OutputOption
from fluidpy.cli.printers import print_json, print_text, print_yaml, talk
from fluidpy.cli.resources import DEFAULT_NAMESPACE, Kind, kind_of, namespace_of
from fluidpy.errors import UsageError, ValidationError
from fluidpy.settings import load_settings

if TYPE_CHECKING:
    from fluidpy.api.problem import LoadedObject
    from fluidpy.client.control_client import ControlClient

Document = dict[str, Any]

_ORDER: Final = ("Secret", "ConfigMap", "PersistentVolumeClaim", "CacheRuntimeClass",
                 "ThinRuntimeProfile", "ThinRuntime", "Dataset")  # fmt: skip
"""What others refer to is declared first; runtimes and operations come last, but for ThinRuntimes,
which say that a Dataset's sources are a plug-in's."""

DRAIN_ANNOTATION: Final = "fluidpy.io/drain"
"""On a runtime: the workers that `scale --drain` named."""

_REPLICAS: Final = (("spec", "replicas"), ("spec", "worker", "replicas"))


class DryRun(StrEnum):
    """Whether objects are only checked."""

    NONE = "none"
    SERVER = "server"


def apply(
    files: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", metavar="FILE", help="A file, a folder, or - for stdin."),
    ] = None,
    namespace: NamespaceOption = None,
    dry_run: Annotated[
        DryRun, typer.Option("--dry-run", help="With `server` nothing is changed.")
    ] = DryRun.NONE,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Declare objects: the control plane makes them come true, and keeps them so.

    All files are checked first, together with what is there: if anything is wrong, all of it is
    told and nothing changes. Example:

    fluidpy apply -f imagenet.yaml
    """
    from fluidpy.client.control_client import ControlClient

    if not files:
        raise UsageError("no file is given", cure="fluidpy apply -f FILE")
    loaded = load_files(files, namespace)
    client = ControlClient(load_settings())
    check(client, loaded)
    results: list[Document] = []
    for one in sorted(loaded, key=_place_in_order):
        document, word = declare(client, one, dry_run is DryRun.SERVER)
        results.append(document)
        if output is OutputFormat.TABLE:
            kind = kind_of(document)
            suffix = " (server dry run)" if dry_run is DryRun.SERVER else ""
            print_text(f"{kind.full_name}/{document['metadata']['name']} {word}{suffix}")
    _print(results, output)


def load_files(files: Sequence[Path], namespace: str | None) -> list[LoadedObject]:
    """The objects of files; warnings go to stderr.

    Raises ValidationError with every problem, UsageError when a file names another namespace than
    the command line, or when there is no object.
    """
    from fluidpy.api.document import load_valid_documents

    sources = [yaml_source(file) for file in files]
    result = load_valid_documents(sources, namespace=namespace or DEFAULT_NAMESPACE)
    for warning in result.warnings:
        talk(f"warning: {warning}")
    if not result.objects:
        names = ", ".join(map(str, files))
        raise UsageError(f"there is no object in {names}", cure="Name a file of objects.")
    for one in result.objects:
        if namespace and namespace_of(kind_of_loaded(one), one.object.namespace) not in (
            "",
            namespace,
        ):
            raise UsageError(
                f"{one.file}:{one.line}: the namespace of {one.object.name} is "
                f"{one.object.namespace}, and -n says {namespace}",
                cure="Leave one of the two out.",
            )
    return result.objects


def kind_of_loaded(one: LoadedObject) -> Kind:
    """The kind of an object of a file."""
    return kind_of({"kind": one.object.kind})


def document_of(one: LoadedObject) -> Document:
    """An object as it is sent, with the values of Secrets; relative paths are below its file."""
    from fluidpy.api.serialisation import to_dict
    from fluidpy.client.control_client import BASE_DIRECTORY_ANNOTATION

    document = to_dict(one.object, reveal_secrets=True)
    document.pop("status", None)
    metadata = document["metadata"]
    metadata["name"] = one.object.name
    if kind_of_loaded(one).namespaced:
        metadata["namespace"] = one.object.namespace
    if one.object.kind == "Dataset":
        base = Path.cwd() if one.file in ("-", "<stdin>") else Path(one.file).resolve().parent
        annotations = {BASE_DIRECTORY_ANNOTATION: os.fspath(base)}
        metadata["annotations"] = annotations | metadata.get("annotations", {})
    return document


def check(client: ControlClient, loaded: Sequence[LoadedObject]) -> None:
    """Has the control plane check all objects with those that are there; changes nothing.

    Raises ValidationError with every problem, at its place in the files.
    """
    answer = client.validate([document_of(one) for one in loaded])
    for warning in answer.get("warnings", ()):
        talk(f"warning: {_located(loaded, warning)}")
    if answer.get("problems"):
        lines = [_located(loaded, problem) for problem in answer["problems"]]
        raise ValidationError("\n".join(dict.fromkeys(lines)), cure="Nothing was changed.")


def _located(loaded: Sequence[LoadedObject], problem: Mapping[str, Any]) -> str:
    """A problem the control plane tells, as the line of the file that it is about."""
    from fluidpy.api.problem import format_path, with_cure

    field = str(problem.get("field", ""))
    message, cure = str(problem.get("message", "")), str(problem.get("cure", ""))
    for one in loaded:
        same_place = problem.get("namespace") in ("", None, one.object.namespace)
        if (one.object.kind, one.object.name) != (problem.get("kind"), problem.get("name")):
            continue
        if same_place:
            depth = len(one.at)
            paths = {format_path(path[depth:]): path[depth:] for path in one.positions.values}
            nearest = max((known for known in paths if field.startswith(known)), key=len)
            located = one.problem(paths[nearest], message, cure)
            return str(located).replace(f": {located.field_path}: ", f": {field}: ", 1)
    return f"{problem.get('kind')} {problem.get('name')}: {field}: {with_cure(message, cure)}"


def declare(client: ControlClient, one: LoadedObject, dry_run: bool) -> tuple[Document, str]:
    """Creates or replaces an object; the object, and kubectl's word for what happened.

    The number of workers that `scale` set stays unless the file says one.
    """
    from fluidpy.errors import ObjectNotFoundError

    kind, document = kind_of_loaded(one), document_of(one)
    place = namespace_of(kind, one.object.namespace)
    try:
        old = client.get(kind.plural, place, one.object.name)
    except ObjectNotFoundError:
        return client.create(kind.plural, place, document, dry_run=dry_run), "created"
    keep_scale(document, old)
    new = client.replace(kind.plural, place, one.object.name, document, dry_run=dry_run)
    if dry_run:
        return new, "configured"
    same = old["metadata"].get("resourceVersion") == new["metadata"].get("resourceVersion")
    return new, "unchanged" if same else "configured"


def keep_scale(document: Document, old: Mapping[str, Any]) -> None:
    """Takes over what `scale` set of the object that is there, where the file says nothing of it:
    how many workers, and which of them are to leave first.
    """
    drained = _at(old, ("metadata", "annotations", DRAIN_ANNOTATION))
    if drained is not None:
        document["metadata"].setdefault("annotations", {}).setdefault(DRAIN_ANNOTATION, drained)
    given = [path for path in _REPLICAS if _at(document, path) is not None]
    for path in _REPLICAS:
        value = _at(old, path)
        if value is None or given:
            continue
        target = document
        for name in path[:-1]:
            target = target.setdefault(name, {})
        target[path[-1]] = value


def _at(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _place_in_order(one: LoadedObject) -> int:
    kind = one.object.kind
    if kind in _ORDER:
        return _ORDER.index(kind)
    return len(_ORDER) + kind.startswith("Data")


def _print(results: Sequence[Document], output: OutputFormat) -> None:
    if output is OutputFormat.NAME:
        for document in results:
            print_text(f"{kind_of(document).full_name}/{document['metadata']['name']}")
    elif output in (OutputFormat.JSON, OutputFormat.YAML):
        value = results[0] if len(results) == 1 else as_list(results)
        (print_json if output is OutputFormat.JSON else print_yaml)(value)


def as_list(documents: Sequence[Document]) -> Document:
    """Several objects as one, as kubectl prints them."""
    return {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": list(documents),
    }
