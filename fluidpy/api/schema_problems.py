"""Problems of one object with its kind's fields: pydantic's findings in the words of a user.

No message repeats a value of the file, save words of an enum: values may be secrets.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from pydantic import BaseModel

from fluidpy.api.model import yaml_name
from fluidpy.api.problem import FieldPath


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem without its file: where, what, and what to do."""

    path: FieldPath
    message: str
    cure: str
    at_key: bool = False
    """Whether the field's name is wrong, not its value."""
    meant: str = ""
    """The field that a mistyped name seems to mean."""
    is_missing: bool = False
    instead: str | None = None
    """A value that would fit, to go on checking with; the wrong one is told all the same."""


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """`did you mean 'X'?` when one of `known` is close to `wrong`, else the list of them."""
    names = [name for name in known if name]
    if near := nearest(wrong, names):
        return f"did you mean '{near}'?"
    return "known: " + ", ".join(names) if names else ""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The one of `known` that `wrong` seems to mean; `""` when none is close."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wrong.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""


def findings_of(error: pydantic.ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Every finding of a failed validation of `model`, in the order of its fields."""
    return [_finding(dict(item), model) for item in error.errors(include_url=False)]


def _finding(error: dict[str, Any], model: type[BaseModel]) -> Finding:
    path: FieldPath = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        known = field_names(model, path[:-1])
        meant = nearest(str(path[-1]), known)
        cure = suggestion(str(path[-1]), known)
        return Finding(path, "unknown field", cure, at_key=True, meant=meant)
    if kind == "missing":
        return Finding(path, "is required", "add the field", is_missing=True)
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return _enum_finding(path, error["input"], words)
    if kind in _WANTED:
        return _type_finding(path, _WANTED[kind], error["input"])
    if kind in _LIMITS:
        return Finding(path, _LIMITS[kind](error.get("ctx", {})), "give a value that fits")
    if kind == "string_pattern_mismatch":
        return Finding(path, "is not a time", "write it like 2026-01-31T08:00:00Z")
    message, _, cure = str(error["msg"]).partition("; ")
    return Finding(path, message, cure)


_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_LIMITS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "greater_than_equal": lambda c: f"must be {c['ge']} or more",
    "less_than_equal": lambda c: f"must be {c['le']} or less",
    "string_too_short": lambda c: f"must have {c['min_length']} characters or more",
    "too_short": lambda c: f"must have {c['min_length']} items or more, or be left out",
}


def _enum_finding(path: FieldPath, value: Any, words: list[str]) -> Finding:
    shown = [f"'{word}'" for word in words]
    message = f"must be {' or '.join(shown)}"
    if isinstance(value, str):
        message = f"'{value[:64]}' is not allowed; it {message}"
        near = nearest(value, words)
        cure = f"did you mean '{near}'?" if near else ""
        return Finding(path, message, cure, instead=near or words[0])
    return Finding(path, f"{message}, not {_shape(value)}", "", instead=words[0])


def _type_finding(path: FieldPath, wanted: str, value: Any) -> Finding:
    cure = ""
    if wanted == "a text":
        if isinstance(value, bool):
            cure = "quote it; YAML reads an unquoted yes, no, on, off, true, false as a boolean"
        elif isinstance(value, int | float):
            cure = "quote it"
        elif value is None:
            cure = 'write "" for an empty text'
        else:
            cure = "write one text"
    elif isinstance(value, str) and wanted in ("a whole number", "true or false"):
        cure = "write it without quotes" if _would_fit(wanted, value) else f"write {wanted}"
    elif wanted == "a list":
        cure = "start each item with '- '"
    elif wanted == "a mapping":
        cure = "write its fields as 'name: value' lines"
    return Finding(path, f"must be {wanted}, not {_shape(value)}", cure)


def _would_fit(wanted: str, value: str) -> bool:
    if wanted == "true or false":
        return value.lower() in ("true", "false")
    return re.fullmatch(r"[-+]?\d+", value) is not None


def _shape(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "a mapping"


def field_names(model: type[BaseModel], path: FieldPath) -> list[str]:
    """The YAML names of the fields that may stand at `path` of a kind; empty where any may."""
    current: Any = model
    for step in path:
        current = _step(_strip(current), step)
    current = _strip(current)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [yaml_name(name) for name in current.model_fields]
    return []


def _strip(annotation: Any) -> Any:
    """An annotation without `Annotated` and `| None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _strip(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _strip(members[0])
    return annotation


def _step(annotation: Any, step: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            if yaml_name(name) == step:
                return info.annotation
        return None
    arguments = typing.get_args(annotation)
    return arguments[-1] if arguments else None
