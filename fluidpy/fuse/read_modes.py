"""How a mount reads files, and the choice of it: a pure decision with its reason.

*no-open*: OPEN is answered once, with ENOSYS; the kernel then opens files and keeps their pages
without us, and asks for bytes only. *passthrough*: the kernel reads complete files of the cache by
itself; each open is asked of us. *plain*: opens and reads are asked of us. One of them for the life
of a mount: the kernel takes back neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fluidpy.errors import MountError, UsageError

LARGE_FILE_BYTES: Final = 1024 * 1024
"""From this size on a file is large: reading it costs more than opening it."""

OPEN_SECONDS: Final = 70e-6
"""What passthrough adds to an open, in seconds (Linux 6.18, 2 cores: 50-90 µs)."""

COPY_SECONDS_A_BYTE: Final = 1.6e-10
"""What no-open adds to a byte of a large file, in seconds (same machine: 2 GiB/s, where it reads at
0.75 of what passthrough does)."""


class ReadMode(StrEnum):
    """How a mount reads."""

    NO_OPEN = "no-open"
    PASSTHROUGH = "passthrough"
    PLAIN = "plain"


AUTO: Final = "auto"
"""What to ask for to have the mode chosen."""

ASKED: Final = (AUTO, *(mode.value for mode in ReadMode))
"""What may be asked for."""


@dataclass(frozen=True, slots=True)
class TreeShape:
    """Files of a Dataset as far as they are known: how many, how many large ones, their bytes;
    whether that is all of them.
    """

    files: int
    large_files: int
    large_bytes: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Obstacles:
    """Why a mode is impossible here, as the end of a sentence; empty where it is possible."""

    no_open: str = ""
    passthrough: str = ""

    def of(self, mode: ReadMode) -> str:
        """The obstacle of one mode; plain has none."""
        if mode is ReadMode.NO_OPEN:
            return self.no_open
        return self.passthrough if mode is ReadMode.PASSTHROUGH else ""


@dataclass(frozen=True, slots=True)
class ReadModeChoice:
    """A mode and why it is that one."""

    mode: ReadMode
    reason: str

    def to_wire(self) -> dict[str, Any]:
        """Plain values for the holder and the record of the mount."""
        return {"mode": self.mode.value, "reason": self.reason}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> ReadModeChoice:
        """The choice that `to_wire` described."""
        return cls(ReadMode(wire["mode"]), str(wire["reason"]))


def check_asked(asked: str) -> str:
    """The given value, which `--read-mode` takes. Raises UsageError for any other."""
    if asked not in ASKED:
        raise UsageError(
            f"there is no read mode {asked!r}", cure=f"Give one of: {', '.join(ASKED)}."
        )
    return asked


def choose(asked: str, shape: TreeShape | None, obstacles: Obstacles) -> ReadModeChoice:
    """The mode of a mount; `shape` is None (or of no file) where nothing is known of the tree.

    Raises MountError when a mode is asked for that is impossible.
    """
    if asked != AUTO:
        mode = ReadMode(asked)
        if obstacle := obstacles.of(mode):
            raise MountError(
                f"the read mode {mode} is impossible here: {obstacle}",
                cure="Mount with --read-mode auto; `fluidpy doctor` says what this machine allows.",
            )
        return ReadModeChoice(mode, "asked for")
    if obstacles.passthrough and obstacles.no_open:
        return ReadModeChoice(
            ReadMode.PLAIN, f"no passthrough: {obstacles.passthrough}; {obstacles.no_open}"
        )
    if obstacles.passthrough:
        return ReadModeChoice(ReadMode.NO_OPEN, f"no passthrough: {obstacles.passthrough}")
    if obstacles.no_open:
        return ReadModeChoice(ReadMode.PASSTHROUGH, f"no no-open: {obstacles.no_open}")
    return _cheaper(shape)


def _cheaper(shape: TreeShape | None) -> ReadModeChoice:
    if shape is None or shape.files == 0:
        return ReadModeChoice(ReadMode.PASSTHROUGH, "nothing is known of the files yet")
    facts = (
        f"{shape.large_files} of {shape.files} files{'' if shape.whole else ' known by now'} have "
        f"1 MiB or more ({shape.large_bytes} bytes in all)"
    )
    if shape.large_bytes * COPY_SECONDS_A_BYTE >= shape.files * OPEN_SECONDS:
        return ReadModeChoice(ReadMode.PASSTHROUGH, f"large files matter most: {facts}")
    return ReadModeChoice(ReadMode.NO_OPEN, f"small files matter most: {facts}")
