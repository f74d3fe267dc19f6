"""Arguments of each command of JuiceFS, as lists: no shell reads them. Pure.

No secret is among them; `volume` says which variables carry those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluidpy.api.duration import parse_duration
from fluidpy.errors import ValidationError
from fluidpy.runtime.juicefs.volume import Volume

MIB: Final = 2**20
"""`--cache-size` counts in these."""

TIMEOUT: Final = "timeout"
"""The one option of an operation that is no flag of the command: how long it may take."""

OPERATION_SECONDS: Final = 1800.0
"""Fluid's default of `timeout`: 30m."""

_NOT_OF_THE_ENGINE: Final = frozenset((TIMEOUT, "loadMetadataOnly"))
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTkmgt]?)i?B?")
_KERNEL: Final = frozenset(("ro", "rw", "debug", "writeback_cache"))


@dataclass(frozen=True, slots=True)
class CachePlace:
    """Where the engine caches on this machine, and how much."""

    directories: tuple[Path, ...]
    quota_bytes: int


def format_arguments(program: str, volume: Volume) -> tuple[str, ...] | None:
    """Makes the volume, or finds it made; None where that is not ours to do.

    A volume of which neither store nor bucket is declared is there already: it is asked for.
    """
    if volume.meta is None:
        return None
    if not (volume.storage or volume.bucket):
        return (program, "status", volume.meta.url)
    declared: list[tuple[str, str]] = []
    if volume.storage:
        declared.append(("storage", volume.storage))
    if volume.bucket:
        declared.append(("bucket", volume.bucket))
    flags = _flags((*declared, *volume.format_options))
    return (program, "format", "--no-update", *flags, volume.meta.url, volume.name)


def quota_arguments(program: str, volume: Volume) -> tuple[str, ...] | None:
    """Bounds the shown folder, or the volume; None without a quota."""
    if volume.meta is None or not volume.quota_gib:
        return None
    size = ("--capacity", str(volume.quota_gib))
    return (program, "quota", "set", volume.meta.url, "--path", volume.subdirectory, *size)


def folder_arguments(program: str, volume: Volume) -> tuple[str, ...] | None:
    """Fails, and says why, where the shown folder is not in the volume; None for all of it.

    A read-only mount would not make the folder, and says "read-only file system" of it.
    """
    if volume.meta is None or volume.subdirectory == "/":
        return None
    return (program, "quota", "get", volume.meta.url, "--path", volume.subdirectory)


def mount_arguments(
    program: str, volume: Volume, cache: CachePlace, target: Path
) -> tuple[str, ...]:
    """Mounts it, in the foreground, read-only as all Datasets are."""
    ours = {
        "read-only": "",
        "no-bgjob": "",
        "no-usage-report": "",
        "no-syslog": "",
        "hide-internal": "",
        # A port of the kernel's choice: volumes do not get into each other's way.
        "metrics": "127.0.0.1:0",
        "cache-dir": ":".join(map(str, cache.directories)),
        "cache-size": str(max(1, cache.quota_bytes // MIB)),
    }
    if volume.subdirectory != "/":
        ours["subdir"] = volume.subdirectory
    given = {name: value for name, value in volume.mount_options if not _is_kernels(name)}
    kernel = [_assigned(name, value) for name, value in volume.mount_options if _is_kernels(name)]
    kernel = [one for one in kernel if one not in ("ro", "rw")]
    flags = _flags({**ours, **given}.items())
    more = ("-o", ",".join(kernel)) if kernel else ()
    return (program, "mount", *flags, *more, _address(volume), str(target))


def warmup_arguments(
    program: str, target: Path, paths: Sequence[str], options: Mapping[str, str]
) -> tuple[str, ...]:
    """Has the mount at `target` cache these paths of the Dataset; options become flags."""
    flags = _flags((n, v) for n, v in sorted(options.items()) if n not in _NOT_OF_THE_ENGINE)
    return (program, "warmup", *flags, *_places(target, paths))


def check_arguments(program: str, target: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """Has it say how much of these paths is cached."""
    return (program, "warmup", "--check", *_places(target, paths))


def info_arguments(program: str, target: Path) -> tuple[str, ...]:
    """Has it count files and bytes of the whole mount."""
    return (program, "info", "--recursive", str(target))


def size_in_bytes(text: str) -> int:
    """A size as options of JuiceFS give it: MiB, or a number with K, M, G or T (1024 each).

    Raises ValidationError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValidationError(f"{text!r} is no size of JuiceFS", cure="Write MiB, or 10G.")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or "M"))


def operation_seconds(options: Mapping[str, str]) -> float:
    """How long an operation may take. Raises ValidationError for no duration."""
    text = options.get(TIMEOUT)
    if text is None:
        return OPERATION_SECONDS
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValidationError(f"option timeout: {error}", cure="Write it like 30m.") from error


def _address(volume: Volume) -> str:
    return volume.name if volume.meta is None else volume.meta.url


def _is_kernels(name: str) -> bool:
    """Whether an option is one of FUSE itself, given by `-o`: those are written with `_`."""
    return name in _KERNEL or "_" in name


def _assigned(name: str, value: str) -> str:
    return f"{name}={value}" if value else name


def _flags(options: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"--{_assigned(name, value)}" for name, value in options)


def _places(target: Path, paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(target / path.strip("/")) for path in paths)
