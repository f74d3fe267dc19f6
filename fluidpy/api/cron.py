"""Cron expressions, as Kubernetes' CronJob takes them: five fields, or a word such as @daily."""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_WORDS = frozenset(
    {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
)
_PART = re.compile(r"(?P<range>\*|\?|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d{1,4}))?")


def cron_error(expression: str) -> str:
    """What is wrong with a cron expression; `""` when nothing is."""
    if expression.startswith("@"):
        return "" if expression in _WORDS else f"'{expression[:32]}' is no schedule word"
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        return f"has {len(fields)} fields instead of 5"
    for text, (name, low, high, words) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if not _part_fits(part, low, high, words):
                return f"'{part[:32]}' does not fit the {name}, which is {low} to {high}"
    return ""


def _part_fits(part: str, low: int, high: int, words: tuple[str, ...]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or match["step"] == "0":
        return False
    if match["low"] is None:
        return True
    first = _value(match["low"], low, words)
    last = _value(match["high"], low, words) if match["high"] else first
    if first is None or last is None:
        return False
    return low <= first <= last <= high


def _value(text: str, base: int, words: tuple[str, ...]) -> int | None:
    if text.lower() in words:
        return words.index(text.lower()) + base
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None
