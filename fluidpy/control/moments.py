"""Moments as Kubernetes writes them, and how long things took as Fluid and kubectl print it."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(seconds: float) -> str:
    """A moment in seconds since the epoch as `metav1.Time` has it: `2026-01-31T08:00:00Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """The seconds since the epoch of an RFC 3339 text. Raises ValueError for anything else."""
    return datetime.fromisoformat(text).timestamp()


def age(seconds: float) -> str:
    """A time span as kubectl's AGE column prints it: `45s`, `3m5s`, `12m`, `5h`, `2d3h`, `40d`.

    The rule of Kubernetes' `duration.HumanDuration`: the second unit only while the first is small.
    """
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{_rest(whole % 60, 's')}"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{_rest(minutes % 60, 'm')}"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{_rest(hours % 24, 'h')}"
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return f"{days // 365}y{_rest(days % 365, 'd')}"
    return f"{days // 365}y"


def _rest(number: int, unit: str) -> str:
    return f"{number}{unit}" if number else ""


def duration(seconds: float) -> str:
    """A time span as Go prints whole seconds, and Fluid an operation's duration: `1m30s`, `0s`."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return f"{text}{whole % 60}s"
