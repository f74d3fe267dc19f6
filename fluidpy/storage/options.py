"""A mount's options and secrets as typed values: every name checked, every mistake named at once.

Pure: reads no file and no environment but the mapping it is given.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fluidpy.errors import SourceConfigurationError
from fluidpy.storage.option_names import (
    ALIASES,
    ENGINE_PREFIXES,
    LIMIT_OPTIONS,
    OBJECT_STORE_OPTIONS,
)
from fluidpy.storage.under_storage import MountSource

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?(?:/s)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the decorators keep to; None means the setting of the machine, or no limit."""

    max_requests: int | None = None
    """Requests under way at once."""
    max_bytes_per_second: int | None = None
    """Bytes read a second, over all readers of the mount on this machine; None is no limit."""
    deadline_seconds: float | None = None
    """How long one read, stat or page of a listing may take, retries included, in seconds."""
    retries: int | None = None
    """Attempts after the first; 0 asks once."""


@dataclass(frozen=True, slots=True)
class ObjectStoreOptions:
    """How to reach an S3-compatible store; neither keys nor token are shown by repr."""

    endpoint: str = ""
    region: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    path_style: bool | None = None
    anonymous: bool = False
    allow_http: bool | None = None
    ca_bundle: str = ""
    credentials: str = ""


@dataclass(frozen=True, slots=True)
class CanonicalOptions:
    """Options under our own names, and what was accepted without having a meaning here."""

    values: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def canonical_options(source: MountSource, known: Iterable[str]) -> CanonicalOptions:
    """Options and secrets of a mount under our names, `known` and the limits allowed.

    Raises SourceConfigurationError listing every unknown name and every contradiction.
    """
    allowed = {*known, *LIMIT_OPTIONS}
    values: dict[str, str] = {}
    said_by: dict[str, str] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for name, value in (*source.options.items(), *source.secrets.items()):
        ours = ALIASES.get(name)
        if ours is None or ours not in allowed:
            if name.startswith(ENGINE_PREFIXES):
                warnings.append(f"option {name} has no meaning here and is ignored")
            else:
                problems.append(_unknown(name, allowed))
        elif ours in values and values[ours] != str(value):
            problems.append(f"{said_by[ours]} and {name} mean the same and have different values")
        else:
            values[ours], said_by[ours] = str(value), name
    _raise(source, problems)
    return CanonicalOptions(values, tuple(warnings))


def _unknown(name: str, allowed: Iterable[str]) -> str:
    fitting = [alias for alias, ours in ALIASES.items() if ours in set(allowed)]
    close = difflib.get_close_matches(name, fitting, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown option {name}{hint}"


def _raise(source: MountSource, problems: list[str]) -> None:
    if problems:
        raise SourceConfigurationError(
            f"mount {source.label or source.url}: {'; '.join(problems)}",
            cure="Correct the mount's options or encryptOptions.",
        )


def limits_of(source: MountSource) -> Limits:
    """The limits among a mount's options. Raises SourceConfigurationError for bad numbers."""
    problems: list[str] = []
    given = {name: source.options[name] for name in LIMIT_OPTIONS if name in source.options}

    def number(name: str, least: float) -> float | None:
        if name not in given:
            return None
        value = parse_quantity(str(given[name]))
        if value is None or value < least:
            problems.append(f"{name} is {given[name]!r}, not a number from {least:g} up")
            return None
        return value

    requests, rate = number("max_requests", 1), number("max_bytes_per_second", 1)
    deadline, retries = number("deadline_seconds", 0.001), number("retries", 0)
    _raise(source, problems)
    return Limits(
        max_requests=None if requests is None else int(requests),
        max_bytes_per_second=None if rate is None else int(rate),
        deadline_seconds=deadline,
        retries=None if retries is None else int(retries),
    )


def parse_quantity(text: str) -> float | None:
    """A number with an optional unit (`50Mi`, `10M`, `1.5`); None if it is not one."""
    match = _QUANTITY.fullmatch(text.strip())
    return float(match[1]) * _UNITS[(match[2] or "").lower()] if match else None


def parse_boolean(text: str) -> bool | None:
    """`true`, `yes`, `on`, `1` and their opposites; None for anything else."""
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    return False if lowered in _FALSE else None


def object_store_options(
    source: MountSource,
) -> tuple[ObjectStoreOptions, tuple[str, ...]]:
    """How a mount wants its object store reached, and warnings.

    Raises SourceConfigurationError naming every option that is unknown, contradictory or bad.
    """
    canonical = canonical_options(source, OBJECT_STORE_OPTIONS)
    values = dict(canonical.values)
    problems: list[str] = []
    flags: dict[str, bool | None] = {}
    for name in ("path_style", "anonymous", "allow_http"):
        flags[name] = parse_boolean(values[name]) if name in values else None
        if name in values and flags[name] is None:
            problems.append(f"{name} is {values[name]!r}, not true or false")
    problems += _credential_problems(values, bool(flags["anonymous"]))
    _raise(source, problems)
    text = {
        name: values.get(name, "")
        for name in OBJECT_STORE_OPTIONS
        if name not in flags and name != "client"
    }
    options = ObjectStoreOptions(
        path_style=flags["path_style"],
        anonymous=bool(flags["anonymous"]),
        allow_http=flags["allow_http"],
        **text,
    )
    return options, canonical.warnings


def _credential_problems(values: Mapping[str, str], anonymous: bool) -> list[str]:
    problems = []
    key, secret = values.get("access_key_id", ""), values.get("secret_access_key", "")
    if bool(key) != bool(secret):
        there, missing = ("access_key_id", "secret_access_key")[:: 1 if key else -1]
        problems.append(f"{there} is given without {missing}")
    source = values.get("credentials", "")
    if source not in ("", "environment"):
        problems.append(f"credentials is {source!r}, and only 'environment' is known")
    if anonymous and (key or source):
        problems.append("anonymous is true and credentials are given too")
    elif source and key:
        problems.append("credentials is 'environment' and an access key is given too")
    return problems
