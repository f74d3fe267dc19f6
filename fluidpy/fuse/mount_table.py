"""The kernel's table of mounts (`/proc/self/mountinfo`, see proc(5)), read without touching any."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE_SYSTEM_TYPE: Final = "fuse.fluidpy"
"""How our mounts name themselves: file system `fuse`, subtype `fluidpy`."""

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of the table. `device` is `MAJOR:MINOR`."""

    device: str
    directory: Path
    file_system: str
    source: str

    @property
    def ours(self) -> bool:
        """Whether fluidpy mounted it."""
        return self.file_system == FILE_SYSTEM_TYPE


def parse_mountinfo(content: bytes) -> list[MountPoint]:
    """The lines of a mountinfo file, in order: later ones lie over earlier ones."""
    points = []
    for line in content.split(b"\n"):  # nothing else ends one
        head, separator, tail = line.partition(b" - ")
        fields, after = head.split(b" "), tail.split(b" ")
        if separator and len(fields) >= 5 and len(after) >= 2:
            points.append(
                MountPoint(
                    fields[2].decode("ascii"),
                    Path(os.fsdecode(_unescape(fields[4]))),
                    os.fsdecode(_unescape(after[0])),
                    os.fsdecode(_unescape(after[1])),
                )
            )
    return points


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)


def read_mounts() -> list[MountPoint]:
    """All mounts that this process sees."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def mounted_at(directory: Path) -> MountPoint | None:
    """The uppermost mount whose mount point is `directory` (absolute, no symlinks in it)."""
    found = None
    for point in read_mounts():
        if point.directory == directory:
            found = point
    return found


def shown_elsewhere(device: str) -> list[str]:
    """Where a file system that was unmounted is still to be seen, in words for a person.

    That is at bind mounts, and in mount namespaces that did not hear of it, such as a container's.
    """
    places = [str(point.directory) for point in read_mounts() if point.device == device]
    seen = {Path("/proc/self/ns/mnt").stat().st_ino}
    for process in Path("/proc").iterdir():
        try:
            namespace = (process / "ns/mnt").stat().st_ino if process.name.isdigit() else 0
            if namespace in seen or not namespace:
                continue
            seen.add(namespace)
            points = parse_mountinfo((process / "mountinfo").read_bytes())
        except OSError:  # it ended, or is another user's
            continue
        found = [str(point.directory) for point in points if point.device == device]
        places += [f"{place} in the mount namespace of process {process.name}" for place in found]
    return places
