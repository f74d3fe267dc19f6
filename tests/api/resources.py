"""Resources of any kind for property tests, made from the kinds' own field types."""

from __future__ import annotations

import base64
import types
import typing
from typing import Any

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fluidpy.api.metadata import Resource
from fluidpy.api.quantity import Quantity

_AWKWARD = (
    *("yes", "1e3", "0o17", "012", "1:30", "null", "~", "<<", "- a", "a: b", "#", "a\nb\n", " x "),
    *("2026-01-31", ".5", "on", "y", "'", '"', "\ttab", "*a", "&a", "!t", "%", "a\n\n b", "true"),
    *("=", "1_0", "---", "...", "\u2028", "\ufeff", "\x85", "\r", "\0", "\U0001f600"),
)
"""Texts that a careless writer of YAML gets wrong."""
_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8) | st.sampled_from(
    _AWKWARD
)
_PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | _TEXT
_OPEN = st.dictionaries(_TEXT, _PLAIN | st.lists(_PLAIN, max_size=2), max_size=2)
_QUANTITIES = st.sampled_from(["10Gi", "5", "0.5", "1e3", "1500m"]).map(Quantity)


def _value(annotation: Any, constraints: list[Any], depth: int) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        extra = [
            m for a in arguments[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])
        ]
        return _value(arguments[0], [*extra, *constraints], depth)
    if origin in (typing.Union, types.UnionType):
        inner = _value(next(a for a in arguments if a is not type(None)), constraints, depth)
        return st.none() | inner
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    least = next((c.min_length for c in constraints if isinstance(c, annotated_types.MinLen)), 0)
    if origin is list:
        return st.lists(_value(arguments[0], [], depth + 1), min_size=least, max_size=max(2, least))
    if origin is dict and arguments[1] is Any:
        return _OPEN
    if origin is dict:
        return st.dictionaries(_TEXT, _value(arguments[1], [], depth + 1), max_size=2)
    return _scalar(annotation, constraints, least, depth)


def _scalar(kind: Any, constraints: list[Any], least: int, depth: int) -> st.SearchStrategy[Any]:
    if issubclass(kind, BaseModel):
        return resources(kind, depth + 1)
    if kind is bool:
        return st.booleans()
    if kind is int:
        bounds: list[Any] = [c.ge for c in constraints if isinstance(c, annotated_types.Ge)]
        low = max(bounds, default=-9)
        return st.integers(max(low, -9), max(low, -9) + 20)
    if kind is Quantity:
        return _QUANTITIES
    if kind is SecretStr:
        encoded = _TEXT.map(lambda text: base64.b64encode(text.encode()).decode())
        return encoded.map(SecretStr)
    if any(isinstance(c, StringConstraints) for c in constraints):
        return st.just("2026-01-31T08:00:00.5Z")
    return _TEXT.map(lambda text: text + "x" * (least - len(text)))


def resources(model: type[BaseModel], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a model: required fields always, each of the others sometimes."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    free: dict[str, st.SearchStrategy[Any]] = {}
    for name, info in model.model_fields.items():
        if name in ("api_version", "kind") and issubclass(model, Resource):
            continue
        strategy = st.deferred(
            lambda i=info: _value(i.annotation, list(i.metadata), depth)  # type: ignore[misc]  # a default binds the loop's value
        )
        is_required = info.default is PydanticUndefined and info.default_factory is None
        (required if is_required else free)[name] = strategy
    names = (
        st.lists(st.sampled_from(sorted(free)), max_size=5 if depth < 3 else 1)
        if free
        else st.just([])
    )

    def build(chosen: list[str]) -> st.SearchStrategy[Any]:
        parts = {**required, **{name: free[name] for name in chosen}}
        return st.fixed_dictionaries(parts).map(lambda values: model(**values))

    return names.flatmap(build)
