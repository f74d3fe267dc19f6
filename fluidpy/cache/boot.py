"""Which boot of the machine this is: what a crash leaves in memory, a boot does not."""

from __future__ import annotations

from pathlib import Path


def boot_id() -> str:
    """The kernel's id of this boot (random(4)); pages written before a crash of a process are
    there as long as it is the same.
    """
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
