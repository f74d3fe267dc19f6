"""What may be declared: every object is checked as its file would be, with those that are there.

Nothing is changed here: what is refused is refused with all that is wrong, and the objects that
are there stay as they were.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fluidpy.api.document import load_values
from fluidpy.api.kinds import KINDS, KindInfo
from fluidpy.api.problem import LoadedObject, Problem, with_cure
from fluidpy.api.secret import Secret
from fluidpy.api.serialisation import to_dict
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.errors import UsageError, ValidationError
from fluidpy.namespace.resolve import check_declared_sources
from fluidpy.storage.plugins import InstalledPlugin

PLURALS: Final[Mapping[str, KindInfo]] = {info.plural: info for info in KINDS.values()}
"""Kinds by the plural that paths name them with."""

Refusal = Callable[[LoadedObject], list[Problem]]
"""What a part of the control plane cannot do yet of an object that is valid."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An object that may be declared: its key, its document, and what is accepted all the same."""

    key: ObjectKey
    document: Document
    warnings: list[str]


class Admission:
    """Checks documents against their kinds and against the objects of a store."""

    def __init__(
        self,
        store: ObjectStore,
        refusals: Sequence[Refusal] = (),
        plugins: Callable[[], Iterable[InstalledPlugin]] = tuple,
    ) -> None:
        """`refusals` say what is valid and still not served; `plugins` are those installed now."""
        self._store, self._plugins = store, plugins
        self._refusals = tuple(refusals)
        self._loaded: dict[ObjectKey, tuple[str, LoadedObject]] = {}

    def review(self, plural: str, namespace: str, name: str | None, document: object) -> Reviewed:
        """The object that a document declares, at the place that the path of the request names.

        Raises ValidationError with every problem, UsageError when document and path differ.
        """
        info = kind_of(plural)
        value = _placed(info, namespace, name, document)
        label = _label(value)
        result, problems = self._check({label: value})
        if problems:
            raise ValidationError("\n".join(map(_line, problems)))
        loaded = result[0]
        warnings = [_line(warning) for warning in self._warnings]
        return Reviewed(_key(info, loaded), _document(loaded), warnings)

    def review_all(self, documents: Sequence[object]) -> dict[str, list[Document]]:
        """What is wrong with documents taken together: `problems` and `warnings`, as values."""
        values: dict[str, Any] = {}
        for index, document in enumerate(documents):
            value = _stripped(document) if isinstance(document, dict) else document
            label = _label(value) if isinstance(value, dict) else f"item {index}"
            values[label if label not in values else f"{label} (item {index})"] = value
        _, problems = self._check(values)
        return {
            "problems": [_wire(problem, values) for problem in problems],
            "warnings": [_wire(warning, values) for warning in self._warnings],
        }

    def stored(self) -> list[LoadedObject]:
        """All objects of the store, as files would give them; those that changed are read anew."""
        fresh: dict[ObjectKey, tuple[str, LoadedObject]] = {}
        for key, document in self._store:
            if key.plural not in PLURALS:
                continue
            version = document["metadata"]["resourceVersion"]
            known = self._loaded.get(key)
            if known is not None and known[0] == version:
                fresh[key] = known
                continue
            if (one := _read(document)) is not None:
                fresh[key] = (version, one)
        self._loaded = fresh
        return [one for _, one in fresh.values()]

    def _check(self, values: Mapping[str, Any]) -> tuple[list[LoadedObject], list[Problem]]:
        declared = {_identity(value) for value in values.values()}
        others = [one for one in self.stored() if _identity_of(one) not in declared]
        result = load_values(values, among=others)
        problems, warnings = list(result.problems), list(result.warnings)
        sources, hints = check_declared_sources(result.objects, others, plugins=self._plugins())
        problems += [problem for problem in sources if problem.file in values]
        warnings += [hint for hint in hints if hint.file in values]
        for one in result.objects:
            problems += [problem for refuse in self._refusals for problem in refuse(one)]
        self._warnings = warnings
        return result.objects, list(dict.fromkeys(problems))


def kind_of(plural: str) -> KindInfo:
    """The kind of a plural. Raises UsageError."""
    info = PLURALS.get(plural)
    if info is None:
        raise UsageError(
            f"there is no kind with the plural {plural!r}",
            cure=f"The plurals are {', '.join(sorted(PLURALS))}.",
        )
    return info


def _placed(info: KindInfo, namespace: str, name: str | None, document: object) -> Document:
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise UsageError(
            "the body is no object with metadata",
            cure="Send one object as JSON: apiVersion, kind, metadata, spec.",
        )
    value = _stripped(document)
    metadata = value["metadata"]
    if value.get("kind") != info.kind:
        raise UsageError(
            f"the path is of {info.kind}, and the object's kind is {value.get('kind')!r}",
            cure="Send the object to the path of its kind.",
        )
    places = [("name", name)] if name is not None else []
    places += [("namespace", namespace)] if info.namespaced else []
    for field, wanted in places:
        if metadata.setdefault(field, wanted) != wanted:
            raise UsageError(
                f"the path names the {field} {wanted}, and the object {metadata[field]!r}",
                cure="Send the object to the path of its own name and namespace.",
            )
    return value


def _stripped(document: Mapping[str, Any]) -> Document:
    """Without what is the server's: a status, and who wrote which field."""
    value = {name: item for name, item in document.items() if name != "status"}
    if isinstance(value.get("metadata"), dict):
        value["metadata"] = {
            name: item for name, item in value["metadata"].items() if name != "managedFields"
        }
    return value


def _document(loaded: LoadedObject) -> Document:
    resource = loaded.object
    document = to_dict(resource, reveal_secrets=True)
    document["metadata"]["name"] = resource.name
    if KINDS[resource.kind].namespaced:
        document["metadata"]["namespace"] = resource.namespace
    else:
        document["metadata"].pop("namespace", None)
    if isinstance(resource, Secret):
        _encode_texts(document)
    return document


def _encode_texts(secret: Document) -> None:
    """Values in clear text become base64 ones, as Kubernetes keeps them."""
    texts = secret.pop("stringData", {})
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    if encoded:
        secret["data"] = {**secret.get("data", {}), **encoded}


def _read(document: Document) -> LoadedObject | None:
    """A stored object; None when this version of fluidpy would refuse it."""
    for value in (document, _stripped(document)):  # a status of an older version may not fit
        if found := load_values({_label(value): value}).objects:
            return found[0]
    return None


def _key(info: KindInfo, loaded: LoadedObject) -> ObjectKey:
    namespace = loaded.object.namespace if info.namespaced else ""
    return ObjectKey(info.plural, namespace, loaded.object.name)


def _identity(value: Any) -> tuple[str, str, str]:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(metadata, dict):
        return "", "", ""
    kind = str(value.get("kind"))
    namespaced = kind not in KINDS or KINDS[kind].namespaced
    namespace = str(metadata.get("namespace", "default")) if namespaced else ""
    return kind, namespace, str(metadata.get("name"))


def _identity_of(one: LoadedObject) -> tuple[str, str, str]:
    kind = one.object.kind
    return kind, one.object.namespace if KINDS[kind].namespaced else "", one.object.name


def _label(value: Mapping[str, Any]) -> str:
    """What problems call an object: its kind and name, and its namespace if it is not default."""
    kind, namespace, name = _identity(value)
    return f"{kind} {name}" if namespace in ("", "default") else f"{kind} {namespace}/{name}"


def _line(problem: Problem) -> str:
    where = f"{problem.file}: {problem.field_path}" if problem.field_path else problem.file
    return f"{where}: {with_cure(problem.message, problem.cure)}"


def _wire(problem: Problem, values: Mapping[str, Any]) -> Document:
    kind, namespace, name = _identity(values.get(problem.file))
    return {
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "field": problem.field_path,
        "message": problem.message,
        "cure": problem.cure,
    }
