"""Reads `fluid_fields.txt`, and lists the fields of fluidpy's own schemas in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from fluidpy.api.schema import json_schema

TABLE = Path(__file__).with_name("fluid_fields.txt")
ABSENT: Final = "absent"
Facts: TypeAlias = dict[str, Any]
"""What is said of a field: `type`, and what else is asked of it."""
Fields: TypeAlias = dict[str, Facts]
"""Facts by path: `spec.mounts`, `spec.mounts[]` for an item, `spec.options{}` for a value."""

_SCALARS = ("string", "boolean", "int", "int32", "int64", "quantity", "time")
_BOUNDS = {">=": "minimum", "items": "minItems", "length": "minLength"}


@dataclass
class Table:
    """Structs, the kinds made of them, and how many fields each kind has in Fluid."""

    structs: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    core: set[str] = field(default_factory=set)

    def fields(self, kind: str) -> Fields:
        """Every field of a kind but apiVersion, kind and metadata."""
        return dict(self._of_struct(kind, ""))

    def _of_struct(self, struct: str, at: str) -> Iterator[tuple[str, Facts]]:
        for line in self.structs[struct]:
            if line.startswith("*"):
                yield from self._of_struct(line[1:], at)
                continue
            name, kind, *words = line.split()
            path = f"{at}.{name}" if at else name
            for place, facts in self._of_type(kind, path):
                yield place, ({**facts, **_facts(kind, words)} if place == path else facts)

    def _of_type(self, kind: str, path: str) -> Iterator[tuple[str, Facts]]:
        if kind[0] in "[{":
            yield path, {"type": "list" if kind[0] == "[" else "map"}
            yield from self._of_type(kind[1:-1], path + kind[0] + kind[-1])
        elif kind in _SCALARS or kind in self.core:
            yield path, {"type": kind if kind in _SCALARS else "core"}
        else:
            yield path, {"type": "struct"}
            yield from self._of_struct(kind, path)


def _facts(kind: str, words: list[str]) -> Facts:
    found: Facts = {}
    rest = iter(words)
    for word in rest:
        if word == "!":
            found["required"] = True
        elif word == "in":
            found["enum"] = {value.strip('"') for value in next(rest).split("|")}
        elif word == "=":
            found["default"] = int(next(rest)) if kind.startswith("int") else next(rest)
        else:
            found[_BOUNDS[word]] = int(next(rest))
    return found


def read_table() -> Table:
    """The table as it stands in the file."""
    table = Table()
    lines: list[str] = []
    for line in TABLE.read_text().splitlines():
        if line.startswith("  "):
            lines.append(line.strip())
        elif line and not line.startswith("#"):
            word, name, *rest = line.split()
            if word == "core":
                table.core |= {name, *rest}
                continue
            lines = table.structs[name] = []
            if word == "kind":
                table.counts[name] = int(rest[0])
    return table


def our_fields(kind: str, fluid: Fields) -> Fields:
    """The fields of fluidpy's schema of a kind; what is `core` in `fluid` is not looked into."""
    schema = json_schema(kind, structural=True)
    properties = {
        name: one
        for name, one in schema["properties"].items()
        if name not in ("apiVersion", "kind", "metadata")
    }
    return dict(_of_schema({**schema, "properties": properties}, "", fluid))


def _of_schema(schema: dict[str, Any], path: str, fluid: Fields) -> Iterator[tuple[str, Facts]]:
    kind = _type(schema)
    if path:
        is_core = fluid.get(path, {}).get("type") == "core"
        yield path, {"type": "core" if is_core else kind, **_schema_facts(schema)}
        if is_core:
            return
    if kind == "list":
        yield from _of_schema(schema["items"], path + "[]", fluid)
    elif kind == "map":
        yield from _of_schema(schema["additionalProperties"], path + "{}", fluid)
    for name, one in schema.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        for at, facts in _of_schema(one, place, fluid):
            needed = at == place and name in schema.get("required", ())
            yield at, ({**facts, "required": True} if needed else facts)


def _type(schema: dict[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind: str = schema["type"]
    if kind == "object":
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return "core"
        return "map" if "additionalProperties" in schema else "struct"
    if kind == "integer":
        return "int64" if schema["maximum"] == 2**63 - 1 else "int32"
    if kind == "string" and "pattern" in schema:
        return "time"
    return "list" if kind == "array" else kind


def _schema_facts(schema: dict[str, Any]) -> Facts:
    """The schema's facts; a default that is Go's zero value is the same as none."""
    found: Facts = {key: schema[key] for key in ("minItems", "minLength") if key in schema}
    if schema.get("default"):
        found["default"] = schema["default"]
    if "enum" in schema:
        found["enum"] = set(schema["enum"])
    for key, widest in (("minimum", (-(2**31), -(2**63))), ("maximum", (2**31 - 1, 2**63 - 1))):
        if schema.get(key, widest[0]) not in widest:
            found[key] = schema[key]
    return found
