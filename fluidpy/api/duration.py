"""Durations as Go writes them (`1m30s`, `30m`, `1.5h`), which is how Fluid writes them.

Grammar and units are those of Go's `time.ParseDuration`; the range is its int64 of nanoseconds,
about 292 years.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, micro sign
    "μs": 10**3,  # U+03BC, Greek mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)")
_LARGEST = 2**63 - 1
_CURE = "write numbers with units, such as 90s, 1m30s or 1.5h"


def parse_duration_nanoseconds(text: str) -> int:
    """A duration in nanoseconds, exact. Raises ValueError saying what may be written instead."""
    match = _WHOLE.fullmatch(text)
    if match is None or len(text) > 128:
        raise ValueError(f"{text[:64]!r} is not a duration; {_CURE}")
    parts = _PART.findall(match[2])
    total = sum((int(Fraction(number) * _NANOSECONDS[unit]) for number, unit in parts), 0)
    if total > _LARGEST:
        raise ValueError(f"{text[:64]!r} is longer than 292 years, the longest duration; {_CURE}")
    return -total if match[1] == "-" else total


def parse_duration(text: str) -> float:
    """A duration in seconds. Raises ValueError saying what may be written instead."""
    return parse_duration_nanoseconds(text) / 10**9


def format_duration_nanoseconds(nanoseconds: int) -> str:
    """A duration as Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`; reads back to the same value."""
    sign = "-" if nanoseconds < 0 else ""
    left = abs(nanoseconds)
    if left == 0:
        return "0s"
    if left < 10**9:
        unit = next(u for u in ("ms", "µs", "ns") if left >= _NANOSECONDS[u])
        return f"{sign}{_decimal(left, _NANOSECONDS[unit])}{unit}"
    hours, left = divmod(left, _NANOSECONDS["h"])
    minutes, left = divmod(left, _NANOSECONDS["m"])
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return f"{sign}{text}{_decimal(left, 10**9)}s"


def format_duration(seconds: float) -> str:
    """A duration given in seconds as Go prints it: `format_duration(90) == "1m30s"`."""
    return format_duration_nanoseconds(round(Fraction(seconds) * 10**9))


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    digits = len(str(scale)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")
