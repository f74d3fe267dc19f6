"""Where a Dataset's cache files lie, and on what kind of file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from fluidpy.cache.directory import MountFact, mount_of, read_mount_table
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

STACKED: Final = frozenset({"overlay", "ecryptfs"})
"""File systems that lie on others: a mount that passes files of them through stacks higher."""

_MEMORY: Final = Path("/dev/shm")
"""Where a Dataset that must stay off disks is kept when it names no tier."""


def cache_directories(definition: DatasetDefinition, settings: Settings) -> list[Path]:
    """The directories of a Dataset's tiers, or where the default one is, without symlinks."""
    default = settings.cache_dir / "store" if definition.keep_on_disk else _MEMORY
    tiers = [Path(tier.directory) for tier in definition.tiers]
    return [Path(os.path.realpath(place)) for place in tiers or [default]]


def is_stacked(directory: Path, mounts: Sequence[MountFact]) -> bool:
    """Whether a directory (no symlinks in it) lies on a stacked file system."""
    mount = mount_of(os.fspath(directory), list(mounts))
    return mount is not None and mount.kind in STACKED


def stack_depth(directories: Iterable[Path]) -> int:
    """How deep a mount stacks that passes files of these directories through (see `negotiate`)."""
    mounts = read_mount_table()
    return 2 if any(is_stacked(directory, mounts) for directory in directories) else 1
