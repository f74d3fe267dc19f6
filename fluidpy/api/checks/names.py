"""Names: of what form, and each once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fluidpy.api.checks.findings import Findings
from fluidpy.api.kinds import KINDS, key_of
from fluidpy.api.metadata import (
    is_data_key,
    is_dns1035_label,
    is_dns1123_label,
    is_dns1123_subdomain,
)
from fluidpy.api.problem import LoadedObject
from fluidpy.api.secret import ConfigMap, Secret

_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DATASET_CURE = "use a-z, 0-9 and '-', start with a letter, end with a letter or digit, at most 63"
_SUBDOMAIN_CURE = "use a-z, 0-9, '-' and '.', start and end with a letter or digit, at most 253"


def check_names(one: LoadedObject, findings: Findings) -> None:
    """The object's own name, its namespace, and its labels."""
    meta = one.object.metadata
    if not meta.name:
        findings.problem(one, ("metadata", "name"), "is required", "give the object a name")
    elif one.object.kind == "Dataset" and not is_dns1035_label(meta.name):
        message = f"'{meta.name}' is no name for a Dataset (a DNS-1035 label)"
        findings.problem(one, ("metadata", "name"), message, _DATASET_CURE)
    elif not is_dns1123_subdomain(meta.name):
        message = f"'{meta.name}' is no name for an object (a DNS-1123 subdomain)"
        findings.problem(one, ("metadata", "name"), message, _SUBDOMAIN_CURE)
    if not KINDS[one.object.kind].namespaced:
        if "namespace" in meta.model_fields_set:
            reason = f"a {one.object.kind} belongs to the whole cluster"
            findings.ignored(one, ("metadata", "namespace"), reason)
    elif not is_dns1123_label(meta.namespace):
        message = f"'{meta.namespace}' is no name for a namespace"
        findings.problem(
            one, ("metadata", "namespace"), message, "use a-z, 0-9 and '-', at most 63"
        )
    _check_labels(one, findings)
    _check_data_keys(one, findings)


def _check_labels(one: LoadedObject, findings: Findings) -> None:
    for field in ("labels", "annotations"):
        for key, value in getattr(one.object.metadata, field).items():
            path = ("metadata", field, key)
            prefix, slash, name = key.rpartition("/")
            if not _LABEL_NAME.fullmatch(name) or (slash and not is_dns1123_subdomain(prefix)):
                cure = "write [domain/]name; a name has letters, digits, '-', '_', '.', at most 63"
                findings.problem(one, path, "is no key for a label or annotation", cure)
            if field == "labels" and value and not _LABEL_NAME.fullmatch(value):
                cure = "use letters, digits, '-', '_', '.', at most 63; or make it an annotation"
                findings.problem(one, path, "is no value for a label", cure)


def _check_data_keys(one: LoadedObject, findings: Findings) -> None:
    if isinstance(one.object, Secret):
        maps = {"data": list(one.object.data), "stringData": list(one.object.string_data)}
    elif isinstance(one.object, ConfigMap):
        maps = {"data": list(one.object.data), "binaryData": list(one.object.binary_data)}
    else:
        return
    for field, keys in maps.items():
        for key in keys:
            if not is_data_key(key):
                cure = "use letters, digits, '-', '_' and '.'"
                findings.problem(one, (field, key), "is no key for a value", cure)


def check_unique(objects: Sequence[LoadedObject], findings: Findings) -> None:
    """No two objects of one kind, namespace and name."""
    first: dict[tuple[str, str, str], LoadedObject] = {}
    for one in objects:
        key = key_of(one.object)
        if not one.object.name:
            continue
        if key in first:
            kind, namespace, name = key
            where = f" of namespace '{namespace}'" if namespace else ""
            place = f"{first[key].file}:{first[key].line}"
            message = f"{kind} '{name}'{where} is given twice, first in {place}"
            findings.problem(one, ("metadata", "name"), message, "rename or remove one of them")
        else:
            first[key] = one
