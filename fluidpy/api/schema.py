"""JSON Schema of the kinds, for editors and for CustomResourceDefinitions."""

from __future__ import annotations

from typing import Any

from fluidpy.api.kinds import KINDS, find_kind
from fluidpy.api.model import Model
from fluidpy.api.schema_problems import suggestion
from fluidpy.errors import UsageError

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str, *, structural: bool = False) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind, given by kind, plural or short name.

    With `structural=True` it is the `openAPIV3Schema` of a CRD instead: definitions inlined, no
    `$schema`, `title`, `const` or nullable unions, open structs marked as such. Raises UsageError,
    with the nearest name, when there is no such kind.
    """
    info = find_kind(kind)
    if info is None:
        raise UsageError(f"there is no kind '{kind}'", cure=suggestion(kind, KINDS))
    schema = info.model.model_json_schema(by_alias=True, mode="validation")
    schema["required"] = sorted({"apiVersion", "kind", "metadata", *schema.get("required", ())})
    schema["description"] = schema.get("description", "").split("\n\n")[0]
    if structural:
        definitions = schema.pop("$defs", {})
        inlined: dict[str, Any] = _structural(schema, definitions)
        inlined["properties"]["metadata"] = {"type": "object"}
        for name in ("apiVersion", "kind"):
            inlined["properties"][name] = {"type": "string"}
        return inlined
    return _plain(schema)


def model_schema(model: type[Model]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document that is no kind."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _plain({**schema, "description": schema.get("description", "").split("\n\n")[0]})


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _without_null(schema)
    return {"$schema": DIALECT, **found}


def _without_null(node: Any) -> Any:
    """The schema without `anyOf: [X, null]`, which says only that a field may be left out."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = _simplified(node)
    return {key: _without_null(value) for key, value in node.items()}


def _simplified(node: dict[str, Any]) -> dict[str, Any]:
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        kept = [choice for choice in choices if choice != {"type": "null"}]
        rest = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
        node = {**kept[0], **rest} if len(kept) == 1 else {**rest, "anyOf": kept}
    if isinstance(node.get("title"), str):
        node = {k: v for k, v in node.items() if k != "title"}
    return node


_NOT_STRUCTURAL = ("title", "writeOnly", "propertyNames")


def _structural(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = _simplified(node)
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = _simplified({**target, **{k: v for k, v in node.items() if k != "$ref"}})
    if node.get("x-kubernetes-int-or-string"):
        kept = {k: v for k, v in node.items() if k in ("description", "x-kubernetes-int-or-string")}
        return {**kept, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    if "const" in node:
        node = {**{k: v for k, v in node.items() if k != "const"}, "enum": [node["const"]]}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in _NOT_STRUCTURAL or (key == "additionalProperties" and value is False):
            continue
        if key == "additionalProperties" and value is True:
            result["x-kubernetes-preserve-unknown-fields"] = True
        elif key == "properties":
            result[key] = {name: _structural(one, definitions) for name, one in value.items()}
        elif key in ("default", "enum", "required"):
            result[key] = value
        else:
            result[key] = _structural(value, definitions)
    return result
