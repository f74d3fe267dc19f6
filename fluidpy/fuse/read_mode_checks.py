"""Which read modes a machine allows, as far as that is known before anything is mounted."""

from __future__ import annotations

import platform

from fluidpy.errors import MountError
from fluidpy.fuse import kernel_mount
from fluidpy.fuse.read_modes import ReadMode, check_asked

PASSTHROUGH_SINCE = (6, 9)
"""The first Linux with `FUSE_DEV_IOC_BACKING_OPEN` and `FOPEN_PASSTHROUGH`."""


def passthrough_obstacle(release: str, *, may_mount: bool) -> str:
    """Why passthrough is impossible here, as the end of a sentence; "" when it may be possible.

    `release` is the kernel's (uname(2)); `may_mount`: CAP_SYS_ADMIN is there.
    """
    numbers = release.split("-")[0].split(".")
    if len(numbers) >= 2 and numbers[0].isdecimal() and numbers[1].isdecimal():
        version = int(numbers[0]), int(numbers[1])
        if version < PASSTHROUGH_SINCE:
            return f"Linux {release} has none (it came with 6.9)"
    return "" if may_mount else "it takes CAP_SYS_ADMIN, which this user does not have"


def check_read_mode(asked: str) -> None:
    """Refuses a mode that this machine cannot have. Raises UsageError, MountError."""
    if check_asked(asked) != ReadMode.PASSTHROUGH:
        return
    obstacle = passthrough_obstacle(platform.release(), may_mount=kernel_mount.may_mount())
    if obstacle:
        raise MountError(
            f"the read mode passthrough is impossible here: {obstacle}",
            cure="Mount as root on Linux 6.9 or later, or without --read-mode.",
        )
