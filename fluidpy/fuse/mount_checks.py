"""What must hold before a Dataset is mounted at a directory; every message names its cure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fluidpy.errors import MountError
from fluidpy.fuse import kernel_mount
from fluidpy.fuse.mount_probe import DEAD, PROBE_SECONDS, probe
from fluidpy.fuse.mount_table import MountPoint, mounted_at
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings
from fluidpy.storage.local import directory_of
from fluidpy.storage.pvc import directory_of_claim
from fluidpy.storage.under_storage import MountSource


def plain_path(directory: Path) -> Path:
    """The absolute path without symlinks, found without looking into a mount at it."""
    absolute = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would touch the mount
    parent = Path(os.path.realpath(absolute.parent))
    candidate = parent / absolute.name if absolute.name else parent
    if mounted_at(candidate) is not None:
        return candidate
    return Path(os.path.realpath(candidate))


def check_mount_point(
    directory: Path,
    definition: DatasetDefinition,
    settings: Settings,
    *,
    allow_non_empty: bool = False,
) -> None:
    """Raises MountError unless a mount at `directory` (a plain path) can be made.

    A dead mount of ours there is cleared first.
    """
    _check_overlap(directory, definition, settings)
    _check_sources(directory, definition, settings)
    if (point := mounted_at(directory)) is not None and point.ours:
        _clear_dead(point)
    elif point is not None:
        raise MountError(
            f"{directory} is a mount of {point.file_system} already",
            cure="Choose another directory, or unmount it.",
        )
    _check_directory(directory, allow_non_empty=allow_non_empty)


def _check_overlap(directory: Path, definition: DatasetDefinition, settings: Settings) -> None:
    places = [settings.cache_dir, *(Path(tier.directory) for tier in definition.tiers)]
    for place in places:
        kept = Path(os.path.realpath(place))
        if directory == kept or kept in directory.parents:
            raise MountError(
                f"{directory} lies in the cache directory {kept}",
                cure="Mount at a directory outside of it.",
            )
        if directory in kept.parents:
            raise MountError(
                f"a mount at {directory} would hide the cache directory {kept}",
                cure="Mount at another directory, or set FLUIDPY_CACHE_DIR.",
            )


def _check_sources(directory: Path, definition: DatasetDefinition, settings: Settings) -> None:
    """A mount inside of its own source would show itself in itself without end."""
    for mount in definition.mounts:
        if (source := _local_directory(mount.source, settings)) is None:
            continue
        if directory == source or source in directory.parents:
            raise MountError(
                f"{directory} lies in the directory {source} that mount {mount.name} shows",
                cure="Mount at a directory outside of it.",
            )
        if directory in source.parents:
            raise MountError(
                f"a mount at {directory} would hide the directory {source} that mount "
                f"{mount.name} shows",
                cure="Mount at another directory.",
            )


def _local_directory(source: MountSource, settings: Settings) -> Path | None:
    """The directory of this machine that a source shows; None for any other source."""
    if source.scheme == "pvc":
        directory = directory_of_claim(source, settings.pvc_directories)
    elif source.scheme in ("local", "file"):
        directory = directory_of(source)
    else:
        return None
    return Path(os.path.realpath(directory))


def _clear_dead(point: MountPoint) -> None:
    # Not stat: the kernel may know the root's attributes and not ask.
    error = probe(lambda: os.statvfs(point.directory), PROBE_SECONDS)
    if error is not None and error.errno in DEAD:
        kernel_mount.take_down(point.directory, point.device)
        return
    state = "" if error is None else f", which does not answer ({error.strerror})"
    raise MountError(
        f"{point.directory} is a mount of Dataset {point.source} already{state}",
        cure=f"Unmount it first: fluidpy umount {point.directory}",
    )


def _check_directory(directory: Path, *, allow_non_empty: bool) -> None:
    try:
        status = directory.stat()
        content = next(directory.iterdir(), None) if stat.S_ISDIR(status.st_mode) else None
    except FileNotFoundError:
        raise MountError(
            f"the mount point {directory} does not exist", cure=f"Make it: mkdir -p {directory}"
        ) from None
    except OSError as error:
        raise MountError(
            f"the mount point {directory} cannot be looked at: {error.strerror}",
            cure="Choose a directory of your own.",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(
            f"the mount point {directory} is not a directory", cure="Choose an empty directory."
        )
    if content is not None and not allow_non_empty:
        raise MountError(
            f"the mount point {directory} is not empty (it has {content.name})",
            cure="Choose an empty directory: a mount hides what lies under it.",
        )
