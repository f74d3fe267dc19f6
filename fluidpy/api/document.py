"""Files of objects: read all, check all, report all.

One call reads any number of files, directories and texts, and says everything that is wrong with
all of them at once: YAML that cannot be read, fields that do not fit, and objects that contradict
themselves or each other (`validation`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluidpy.api.kinds import KINDS, REMOVED_KINDS, KindInfo
from fluidpy.api.metadata import API_VERSION, DEFAULT_NAMESPACE, GROUP
from fluidpy.api.problem import (
    FieldPath,
    LoadedObject,
    Positions,
    Problem,
    format_path,
)
from fluidpy.api.salvage import validate_object
from fluidpy.api.schema_problems import suggestion
from fluidpy.api.texts import YamlSource, YamlText, gather_texts
from fluidpy.api.validation import SecretKnown, check_objects
from fluidpy.api.yaml_nodes import Document, read_documents
from fluidpy.errors import ValidationError

__all__ = [
    "LoadResult",
    "LoadedObject",
    "Problem",
    "YamlSource",
    "YamlText",
    "load_documents",
    "load_valid_documents",
    "load_values",
]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What loading came to."""

    objects: list[LoadedObject]
    """Objects without a problem in their own fields, in the order of the files."""
    problems: list[Problem]
    """Everything that is wrong; objects may be used only when this is empty."""
    warnings: list[Problem]
    """What is accepted, and has no effect or not the one that might be expected."""

    def raise_problems(self) -> None:
        """Raise ValidationError with all problems, one a line, when there is any."""
        if self.problems:
            raise ValidationError("\n".join(str(problem) for problem in self.problems))


def load_documents(
    sources: YamlSource | Iterable[YamlSource],
    *,
    namespace: str = DEFAULT_NAMESPACE,
    secret_known: SecretKnown | None = None,
    read_stdin: Callable[[], bytes] | None = None,
) -> LoadResult:
    """Read and check objects; never raises for what is in the files, see `LoadResult.problems`.

    Sources are paths of files or directories (their .yaml, .yml and .json files, not deeper), `-`
    for standard input, and texts (`YamlText`, or a `str` with a line end in it). `namespace` is
    that of objects which name none. With `secret_known(namespace, name, key)` every Secret key
    that an object asks for must be in the files or known to it. `read_stdin` replaces stdin.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    loaded: list[LoadedObject] = []
    for text, name in gather_texts(sources, problems, read_stdin):
        for document in read_documents(text, name, problems):
            reader = _ObjectReader(name, document, namespace, problems, warnings)
            loaded += reader.objects(document.value, ())
    findings = check_objects(loaded, secret_known=secret_known)
    return LoadResult(
        [one for one in loaded if not one.damaged],
        _in_order([*problems, *findings.problems]),
        _in_order([*warnings, *findings.warnings]),
    )


def load_valid_documents(
    sources: YamlSource | Iterable[YamlSource],
    *,
    namespace: str = DEFAULT_NAMESPACE,
    secret_known: SecretKnown | None = None,
    read_stdin: Callable[[], bytes] | None = None,
) -> LoadResult:
    """As `load_documents`, but raises ValidationError with all problems when there is any."""
    result = load_documents(
        sources, namespace=namespace, secret_known=secret_known, read_stdin=read_stdin
    )
    result.raise_problems()
    return result


def load_values(
    values: Mapping[str, Any],
    *,
    namespace: str = DEFAULT_NAMESPACE,
    among: Sequence[LoadedObject] = (),
    secret_known: SecretKnown | None = None,
) -> LoadResult:
    """As `load_documents`, of plain values by the names that problems give them.

    They are checked together with the objects in `among`, of which no problems are told.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    loaded: list[LoadedObject] = []
    for name, value in values.items():
        reader = _ObjectReader(name, Document(value, Positions()), namespace, problems, warnings)
        loaded += reader.objects(value, ())
    findings = check_objects(loaded, among=among, secret_known=secret_known)
    problems += findings.problems
    warnings += findings.warnings
    objects = [one for one in loaded if not one.damaged]
    return LoadResult(objects, _in_order(problems), _in_order(warnings))


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By file in the order of appearance, then by place; the same problem once."""
    files: dict[str, int] = {}
    for problem in problems:
        files.setdefault(problem.file, len(files))
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda p: (files[p.file], p.line, p.column))


class _ObjectReader:
    """Turns one document into objects."""

    def __init__(
        self,
        file: str,
        document: Document,
        namespace: str,
        problems: list[Problem],
        warnings: list[Problem],
    ) -> None:
        self._file = file
        self._positions = document.positions
        self._damaged = document.damaged
        self._namespace = namespace
        self._problems = problems
        self._warnings = warnings

    def objects(self, value: Any, at: FieldPath) -> list[LoadedObject]:
        """The objects of a document: one, or the items of a `List`."""
        if not isinstance(value, dict):
            self._report(at, "must be an object", "start with apiVersion, kind and metadata")
            return []
        if value.get("kind") == "List" and value.get("apiVersion") in ("v1", None):
            items = value.get("items")
            if not isinstance(items, list):
                self._report((*at, "items"), "must be a list", "list the objects under items")
                return []
            return [
                one for i, item in enumerate(items) for one in self.objects(item, (*at, "items", i))
            ]
        info = self._kind(value, at)
        return [] if info is None else self._object(value, at, info)

    def _report(self, path: FieldPath, message: str, cure: str, *, at_key: bool = False) -> None:
        self._problems.append(self._problem(path, message, cure, at_key=at_key))

    def _problem(
        self, path: FieldPath, message: str, cure: str, *, at_key: bool = False
    ) -> Problem:
        line, column = self._positions.of(path, key=at_key)
        return Problem(self._file, line, column, format_path(path), message, cure)

    def _kind(self, value: dict[str, Any], at: FieldPath) -> KindInfo | None:
        """What the document's apiVersion and kind stand for; None when reported or left out."""
        kind, version = value.get("kind"), value.get("apiVersion")
        complete = True
        for name, given, example in (
            ("apiVersion", version, API_VERSION),
            ("kind", kind, "Dataset"),
        ):
            if not isinstance(given, str) or not given:
                message = "is required" if given is None else "must be a text"
                self._report((*at, name), message, f"write it like '{name}: {example}'")
                complete = False
        if not complete:
            return None
        assert isinstance(kind, str)
        assert isinstance(version, str)
        if kind in REMOVED_KINDS:
            cure = "use another runtime, such as AlluxioRuntime or CacheRuntime"
            self._report((*at, "kind"), f"{kind} {REMOVED_KINDS[kind]}", cure)
            return None
        info = KINDS.get(kind)
        if info is not None and info.api_version == version:
            return info
        self._report_kind(kind, version, at)
        return None

    def _report_kind(self, kind: str, version: str, at: FieldPath) -> None:
        group = version.partition("/")[0]
        info = KINDS.get(kind)
        ours = info is not None and info.api_version == API_VERSION
        if ours or (info is None and group == GROUP and version != API_VERSION):
            expected = info.api_version if info is not None else API_VERSION
            message = f"'{version}' is not the apiVersion of {kind}"
            self._report((*at, "apiVersion"), message, f"did you mean '{expected}'?")
        elif version == API_VERSION:
            names = [name for name, one in KINDS.items() if one.api_version == version]
            self._report((*at, "kind"), f"unknown kind '{kind}'", suggestion(kind, names))
        elif suggestion(version, [API_VERSION]).startswith("did you mean"):
            hint = suggestion(version, [API_VERSION])
            self._report((*at, "apiVersion"), f"unknown apiVersion '{version}'", hint)
        else:
            message = f"{kind} of {version} is no object of fluidpy and is left out"
            self._warnings.append(self._problem((*at, "kind"), message, "apply it with kubectl"))

    def _object(self, value: dict[str, Any], at: FieldPath, info: KindInfo) -> list[LoadedObject]:
        depth = len(at)
        hurt = [path[depth:] for path in self._damaged if path[:depth] == at]
        resource, findings, removed = validate_object(value, info.model)
        for finding in findings:
            if finding.path not in hurt:
                path = (*at, *finding.path)
                self._report(path, finding.message, finding.cure, at_key=finding.at_key)
        hurt += removed
        if resource is None:
            return []
        if "namespace" not in resource.metadata.model_fields_set:
            resource.metadata.namespace = self._namespace
            resource.metadata.model_fields_set.discard("namespace")
        lines = [self._positions.of((*at, name), key=True)[0] for name in value]
        line = min(lines, default=self._positions.of(at)[0])
        return [LoadedObject(resource, self._file, line, self._positions, at, tuple(hurt))]
