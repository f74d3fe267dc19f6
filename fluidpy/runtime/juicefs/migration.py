"""`juicefs sync` for DataMigrate: addresses of both ends, their secrets in variables. Pure.

A volume is named by a variable that holds its metaurl (`jfs://VARIABLE/path`); its password is in
another one, of which there is one for all: between two volumes it is in the metaurl. The keys of an
external store go by the variables that its client looks into when its address holds none; stores
whose clients look into none are refused keys, since all users of a machine can read arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from fluidpy.errors import ValidationError
from fluidpy.runtime.driver import Command
from fluidpy.runtime.juicefs import arguments
from fluidpy.runtime.juicefs.volume import Volume
from fluidpy.runtime.migration import Copied, ExternalEnd

SYNC: Final = "juicefs sync"
"""The command, as messages call it."""

SOURCE, DESTINATION = "FLUIDPY_SOURCE", "FLUIDPY_DESTINATION"
"""Variables with the metaurl of a volume."""

KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "s3": {
        "access-key": "AWS_ACCESS_KEY_ID",
        "secret-key": "AWS_SECRET_ACCESS_KEY",
        "token": "AWS_SESSION_TOKEN",
    },
    "minio": {"access-key": "MINIO_ACCESS_KEY", "secret-key": "MINIO_SECRET_KEY"},
    "oss": {
        "access-key": "ALICLOUD_ACCESS_KEY_ID",
        "secret-key": "ALICLOUD_ACCESS_KEY_SECRET",
        "token": "SECURITY_TOKEN",
    },
}
"""By scheme, where its client looks for Fluid's encryptOptions (`pkg/object` of JuiceFS)."""

_DECIDED_HERE: Final = frozenset(
    (
        *("worker", "manager", "manager-addr", "metrics", "consul", "http-port"),
        *("quiet", "q", "log-level", "dry", "version", "V", "help", "h"),
    )
)
"""Flags of `juicefs sync` that whoever runs it decides: other machines, where figures are, what is
logged of the end, and whether anything is copied at all."""

_FLAG = re.compile(r"[a-zA-Z][a-zA-Z-]*")
_LISTENS = re.compile(r'metrics listening on "?(127\.0\.0\.1:\d+)')
_METRIC = re.compile(r"^juicefs_sync_(\w+?)\{[^}]*\} (\S+)$", re.MULTILINE)
_RESULT = re.compile(r"Found: (\d+),.*")
_FAILURE = re.compile(r"Failed to copy object (.+?): (.+?)(?: \[\w+@\S+\])?$", re.MULTILINE)
_UNITS: Final = "BKMGTPE"
_FAILURES_KEPT: Final = 20


@dataclass(frozen=True, slots=True)
class _End:
    address: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    declared: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the runtime, over which those of `environment` win."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    redacted: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_folder(self) -> bool:
        return self.address.endswith("/")


@dataclass(frozen=True, slots=True)
class VolumeEnd:
    """A path in a volume; one that ends in `/` is a folder."""

    volume: Volume
    path: str


def sync_command(
    program: str,
    source: VolumeEnd | ExternalEnd,
    destination: VolumeEnd | ExternalEnd,
    options: Mapping[str, str],
) -> Command:
    """Copies what the destination lacks or has otherwise. Options become flags, as in Fluid.

    JuiceFS wants both ends to be folders or neither; if one is, the other is taken for one. Raises
    ValidationError with every problem, one a line.
    """
    problems: list[str] = []
    ends = _ends(source, destination, problems)
    flags = _flags(options, problems)
    if problems:
        raise ValidationError("\n".join(problems), cure="Correct the DataMigrate.")
    folders = any(one.is_folder for one in ends)
    addresses = [one.address + "/" * (folders and not one.is_folder) for one in ends]
    return Command(
        SYNC,
        # A port of the kernel's choice; the log tells which.
        (program, "sync", *flags, "--metrics=127.0.0.1:0", *addresses),
        _environment(ends),
        deadline_seconds=arguments.operation_seconds(options),
        redacted=(*ends[0].redacted, *ends[1].redacted),
    )


def _environment(ends: Sequence[_End]) -> dict[str, str]:
    """Values of Secrets win over what runtimes declare, and that over defaults."""
    layers = [one.defaults for one in ends] + [one.declared for one in ends]
    layers += [one.environment for one in ends]
    return {name: value for layer in layers for name, value in layer.items()}


def _ends(
    source: VolumeEnd | ExternalEnd, destination: VolumeEnd | ExternalEnd, problems: list[str]
) -> list[_End]:
    both = isinstance(source, VolumeEnd) and isinstance(destination, VolumeEnd)
    found = []
    for one, other, variable in (
        (source, destination, SOURCE),
        (destination, source, DESTINATION),
    ):
        if isinstance(one, ExternalEnd):
            found.append(_external(one, problems))
            continue
        found.append(_volume(one, variable, problems, alone=not both))
        if isinstance(other, ExternalEnd):
            _refuse_foreign_keys(one.volume, other, problems)
    return found


def _refuse_foreign_keys(volume: Volume, store: ExternalEnd, problems: list[str]) -> None:
    """A volume without keys takes those of the process, which are here those of another store.

    Of a volume whose Dataset does not say in which kind of store it is, nothing is known here.
    """
    scheme = store.url.partition("://")[0]
    if store.secrets and scheme in KEYS and volume.storage == scheme and not volume.keys:
        problems.append(
            f"the volume {volume.name} lies in {scheme} and has no keys of its own: juicefs would "
            f"reach it with those of {store.url}; give its Dataset access-key and secret-key under "
            "encryptOptions"
        )


def _volume(end: VolumeEnd, variable: str, problems: list[str], *, alone: bool) -> _End:
    volume = end.volume
    inside = end.path.strip("/")
    if {".", ".."} & set(inside.split("/")):
        problems.append(f"{end.path} has '.' or '..' in it; name the path from the root on")
    path = volume.subdirectory.rstrip("/") + (f"/{inside}" if inside else "")
    slash = "/" if not inside or end.path.endswith("/") else ""
    name = volume.name if volume.meta is None else variable
    environment: dict[str, str] = {}
    if volume.meta is not None and alone:
        environment = {variable: volume.meta.url, **volume.meta.environment}
    elif volume.meta is not None:
        environment = {variable: volume.meta.whole}
    address = f"jfs://{name}{quote(path)}{slash}"
    return _End(address, environment, volume.environment, redacted=_as_shown(volume))


def _as_shown(volume: Volume) -> tuple[str, ...]:
    """What is taken out of output: a password also as a URL has it."""
    password = volume.meta.password if volume.meta is not None else ""
    encoded = quote(password, safe="")
    return (*volume.secrets, encoded) if encoded != password else volume.secrets


def _external(end: ExternalEnd, problems: list[str]) -> _End:
    scheme, _, rest = end.url.partition("://")
    if scheme == "jfs":
        problems.append("jfs:// is a volume; name the Dataset of the volume instead")
    if "@" in rest.partition("/")[0]:
        problems.append(
            "the uri of externalStorage has keys in it; take them out, and name a Secret under "
            "encryptOptions"
        )
    if not rest.strip("/") or any(ord(char) < 33 for char in end.url):
        problems.append("the uri of externalStorage names nothing, or has a blank in it")
    variables = KEYS.get(scheme, {})
    if unknown := sorted(end.secrets.keys() - variables.keys()):
        problems.append(_untaken(scheme, unknown))
    environment = {variables[n]: value for n, value in end.secrets.items() if n in variables}
    defaults = {"AWS_REGION": "us-east-1"} if scheme == "s3" else {}
    redacted = tuple(value for value in end.secrets.values() if value)
    return _End(end.url, environment, defaults=defaults, redacted=redacted)


def _untaken(scheme: str, names: list[str]) -> str:
    taken = KEYS.get(scheme)
    if taken:
        return (
            f"encryptOptions {', '.join(names)} mean nothing to {scheme}://; {', '.join(taken)} do"
        )
    return (
        f"juicefs takes keys of {scheme}:// as arguments only, which all users of the machine "
        f"could read; leave {', '.join(names)} out, or reach the store by {'://, '.join(KEYS)}://"
    )


def _flags(options: Mapping[str, str], problems: list[str]) -> list[str]:
    found = []
    for name, value in sorted(options.items()):
        if name == arguments.TIMEOUT:
            continue
        if name in _DECIDED_HERE:
            problems.append(f"option {name} is set by fluidpy; leave it out")
        elif not _FLAG.fullmatch(name) or any(ord(char) < 32 for char in value):
            problems.append(
                f"options: {name!r} is no option of juicefs sync; write it like 'update'"
            )
        else:
            found.append(f"--{name}={value}" if value else f"--{name}")
    return found


def figures_at(line: str) -> str:
    """Where the figures of a sync are, if a line of its log tells it."""
    found = _LISTENS.search(line)
    return "" if found is None else f"http://{found[1]}/metrics"


def figures(text: str) -> Copied:
    """How far a sync is, from its metrics."""
    seen = {name: int(float(value)) for name, value in _METRIC.findall(text) if value != "NaN"}
    return Copied(
        found=seen.get("scanned", 0),
        done=seen.get("copied", 0) + seen.get("skipped", 0),
        failed=seen.get("failed", 0),
        excluded=seen.get("excluded", 0),
        bytes=seen.get("copied_bytes", 0) + seen.get("skipped_bytes", 0),
    )


def result(output: str) -> Copied:
    """What a sync came to, from the end of its log; it prints sizes with three digits."""
    line = _RESULT.search(output)
    if line is None:
        return Copied()
    counts = {name: _count(line[0], name) for name in ("excluded", "skipped", "copied", "failed")}
    done = [counts[name] for name in ("skipped", "copied")]
    return Copied(
        found=int(line[1]),
        done=sum(number for number, _ in done),
        failed=counts["failed"][0],
        excluded=counts["excluded"][0],
        bytes=sum(size for _, size in done),
        failures=tuple(dict(_FAILURE.findall(output)).items())[:_FAILURES_KEPT],
    )


def _count(line: str, name: str) -> tuple[int, int]:
    found = re.search(rf"{name}: (\d+)(?: \(([\d.]+) (\w+)\))?", line)
    if found is None:
        return 0, 0
    size = float(found[2]) * 1024 ** max(0, _UNITS.find(found[3][:1])) if found[2] else 0.0
    return int(found[1]), int(size)
