"""Which paths a load means: plain paths and globs, as pure functions.

A path or a match stands for itself and all that lies below it. In globs `*` and `?` stay within one
name, `**` as a whole name crosses folders, `[a-z]` and `[!a-z]` are sets; a leading slash does not
matter. `/` or `` means everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_GLOB = re.compile(r"[*?\[]")


def is_glob(pattern: str) -> bool:
    """Whether a pattern has wildcards."""
    return _GLOB.search(pattern) is not None


def normalise(path: str) -> str:
    """The path without leading, trailing and doubled slashes."""
    return "/".join(name for name in path.split("/") if name not in ("", "."))


def root_of(pattern: str) -> str:
    """The deepest folder that holds all a glob can match: its names before the first wildcard."""
    names: list[str] = []
    for name in normalise(pattern).split("/"):
        if is_glob(name):
            break
        names.append(name)
    return "/".join(names)


def outermost(folders: Iterable[str]) -> list[str]:
    """The folders that lie in no other one of them, sorted."""
    kept: list[str] = []
    for folder in sorted(set(folders), key=lambda path: path.split("/")):
        if not any(is_below(folder, other) for other in kept):
            kept.append(folder)
    return kept


def is_below(path: str, folder: str) -> bool:
    """Whether a path is the folder or lies in it."""
    return folder == "" or path == folder or path.startswith(folder + "/")


def compile_patterns(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression that matches (`fullmatch`) every path that one of the patterns means."""
    return re.compile("|".join(f"(?:{_expression(normalise(p))})(?:/.*)?" for p in patterns), re.S)


def _expression(pattern: str) -> str:
    if not pattern:
        return ".*"
    parts: list[str] = []
    names = pattern.split("/")
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name == "**":
            parts.append(".*" if last else "(?:[^/]+/)*")
        else:
            parts.append(_name_expression(name) + ("" if last else "/"))
    return "".join(parts)


def _name_expression(name: str) -> str:
    """One name's expression; nothing in it matches a slash."""
    parts: list[str] = []
    position = 0
    while position < len(name):
        character = name[position]
        close = name.find("]", position + 2 + (name[position + 1 : position + 2] == "!"))
        position += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[" and close > 0:
            parts.append(_set_expression(name[position:close]))
            position = close + 1
        else:
            parts.append(re.escape(character))
    return "".join(parts)


def _set_expression(members: str) -> str:
    """The expression of a set `[members]`; a range that runs backwards holds nothing."""
    negated = members.startswith("!")
    left = members[1:] if negated else members
    items: list[str] = []
    while left:
        if len(left) > 2 and left[1] == "-":
            if left[0] <= left[2]:
                items.append(f"{re.escape(left[0])}-{re.escape(left[2])}")
            left = left[3:]
        else:
            items.append(re.escape(left[0]))
            left = left[1:]
    if negated:
        return f"[^/{''.join(items)}]"
    return f"(?!/)[{''.join(items)}]" if items else "(?!)"
