"""Placeholders in the arguments of a mount plug-in: `{target}`, `{options.NAME}` and the like.

Each argument stays one argument, whatever a value holds: no shell reads it, nothing is quoted.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

PLAIN = ("mountPoint", "source", "target", "cacheDir")
"""Placeholders without a name behind a dot."""
NAMED = ("options", "secretFile", "secret")
"""Placeholders with the name of an option behind a dot."""


class PlaceholderSyntaxError(ValueError):
    """A brace that belongs to no placeholder."""


def placeholders(text: str) -> Iterator[str]:
    """The placeholders of a text, without braces. Raises PlaceholderSyntaxError."""
    for match in _TOKEN.finditer(text):
        if match[1] is not None:
            yield match[1]
        elif match[0] not in ("{{", "}}"):
            raise PlaceholderSyntaxError(f"has a single '{match[0]}'")


def filled(text: str, value_of: Callable[[str], str]) -> str:
    """The text with each placeholder replaced by its value; values are not looked into.

    `value_of` may raise for what has no value; that is passed on. Raises PlaceholderSyntaxError.
    """

    def replaced(match: re.Match[str]) -> str:
        if match[1] is not None:
            return value_of(match[1])
        if match[0] in ("{{", "}}"):
            return match[0][0]
        raise PlaceholderSyntaxError(f"has a single '{match[0]}'")

    return _TOKEN.sub(replaced, text)
