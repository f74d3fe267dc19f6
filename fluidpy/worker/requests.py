"""What an operation gets and gives: checked fields of a request, and its reply."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from fluidpy.client.protocol import Message
from fluidpy.errors import PathNotFoundError, UsageError

DEFAULT_DEADLINE_SECONDS: Final = 60.0
"""For requests that name none."""

LONGEST_DEADLINE_SECONDS: Final = 31 * 24 * 3600.0
"""A load may go on for weeks; nothing waits longer."""


LARGEST_INTEGER: Final = 2**63 - 1
"""What SQLite and file offsets can hold."""


class Reply(NamedTuple):
    """The answer of an operation. `owned` fds are closed once they are sent; others stay open."""

    ok: Message
    fds: Sequence[int] = ()
    owned: bool = False


Progress: TypeAlias = Callable[[Message], None]
"""Sends a progress answer; drops it when the peer reads slowly."""

Answer: TypeAlias = Reply | Coroutine[Any, Any, Reply]
"""A reply at once, or a coroutine that brings it."""


def integer(request: Mapping[str, Any], field: str) -> int:
    """A whole number ≥ 0 of 63 bits. Raises UsageError naming the field."""
    value = request.get(field)
    if type(value) is not int or not 0 <= value <= LARGEST_INTEGER:
        raise malformed(field, "a whole number", value)
    return value


def text(request: Mapping[str, Any], field: str) -> str:
    """A text. Raises UsageError naming the field, PathNotFoundError if no file can have it."""
    value = request.get(field)
    if not isinstance(value, str):
        raise malformed(field, "a text", value)
    return _encodable(value)


def texts(request: Mapping[str, Any], field: str) -> list[str]:
    """A list of texts; empty when the field is absent. Raises as `text` does."""
    value = request.get(field, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise malformed(field, "a list of texts", value)
    return [_encodable(item) for item in value]


def _encodable(value: str) -> str:
    """The text, if bytes stand for it: a name may hold the surrogates of `os.fsdecode` alone."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise PathNotFoundError(
            f"{value!a} cannot be a path: it holds a lone surrogate",
            cure="Decode names with os.fsdecode.",
        ) from error
    return value


def deadline_seconds(request: Mapping[str, Any]) -> float:
    """How many seconds from now the answer is still wanted."""
    value = request.get("deadline", DEFAULT_DEADLINE_SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise malformed("deadline", "seconds above zero", value)
    return min(float(value), LONGEST_DEADLINE_SECONDS)


def malformed(field: str, wanted: str, value: Any) -> UsageError:
    """The error for a field that is not what it should be; says its type, never its value."""
    return UsageError(
        f"request field {field!r} is {type(value).__name__}, not {wanted}",
        cure="Use a client of the same version as the worker.",
    )
