"""Objects back to plain values and YAML, with Fluid's field names and without what is not set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from fluidpy.api.model import yaml_name
from fluidpy.api.yaml_nodes import reads_as_text

HIDDEN = "<hidden>"
"""What stands in place of a Secret's value; no base64, so that it cannot be applied by mistake."""
_AWKWARD = re.compile("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\xa0\\u2028\\u2029\\ufeff]")
"""Controls and line ends other than a newline; only double quotes can escape them."""
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Where kubectl keeps the whole object, a Secret's values included."""
_ALWAYS = frozenset({"api_version", "kind"})


def to_dict(resource: BaseModel, *, reveal_secrets: bool = False) -> dict[str, Any]:
    """An object as plain values, as a file has it.

    Left out are fields that were not given and still have their default, and empty maps and lists
    (as Go's `omitempty` does). Values of a Secret are written only with `reveal_secrets=True`;
    else each is `<hidden>`, under `data`.
    """
    document = _fields(resource)
    if not reveal_secrets:
        _hide(document)
    return _revealed(document) if reveal_secrets else document


def to_yaml(resources: BaseModel | Iterable[BaseModel], *, reveal_secrets: bool = False) -> str:
    """Objects as YAML, one document each; see `to_dict`."""
    several = [resources] if isinstance(resources, BaseModel) else list(resources)
    documents = [to_dict(resource, reveal_secrets=reveal_secrets) for resource in several]
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, no anchors, texts quoted that other readers mistake."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Quote what our reader, and kubectl's, take for a number where PyYAML does not: `1e3`."""
    style = None if reads_as_text(value) else "'"
    if _AWKWARD.search(value):
        style = '"'
    elif "\n" in value and all(line == line.rstrip() for line in value.split("\n")):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _fields(model: BaseModel) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if value is None or (isinstance(value, list | dict) and not value and _is_empty(info)):
            continue
        plain = _plain(value)
        given = name in model.model_fields_set
        if isinstance(value, BaseModel) and not plain and not given:
            continue
        if given or name in _ALWAYS or isinstance(value, BaseModel) or value != _default(info):
            document[yaml_name(name)] = plain
    return document


def _is_empty(info: Any) -> bool:
    return info.default_factory in (dict, list)


def _default(info: Any) -> Any:
    if info.default_factory is not None:
        return info.default_factory()
    return None if info.default is PydanticUndefined else info.default


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _fields(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, SecretStr):
        return value
    return str(value) if isinstance(value, str) else value


def _hide(document: dict[str, Any]) -> None:
    keys: list[str] = []
    for name in ("data", "stringData"):
        values = document.get(name)
        if isinstance(values, dict) and any(isinstance(v, SecretStr) for v in values.values()):
            keys += [key for key in document.pop(name) if key not in keys]
    if keys:
        document["data"] = dict.fromkeys(keys, HIDDEN)
        document.get("metadata", {}).get("annotations", {}).pop(_APPLIED, None)


def _revealed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    return value.get_secret_value() if isinstance(value, SecretStr) else value
