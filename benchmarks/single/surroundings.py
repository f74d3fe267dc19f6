"""Surroundings of a measurement that root can make: a fresh file system, a link of known speed.

Both need root and Debian's `e2fsprogs`, `mount` and `iproute2`; whoever lacks them measures on the
file system at hand, and without the link.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SIZE = "60G"
_LINK_BITS = "4gbit"
_HOST, _PEER = "10.231.7.1", "10.231.7.2"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _has(*programs: str) -> bool:
    return os.geteuid() == 0 and all(shutil.which(program) for program in programs)


@contextlib.contextmanager
def fresh_file_system(directory: Path) -> Iterator[bool]:
    """An empty ext4 with a journal on `directory`, on a sparse file of its own; False without root.

    ext4 without a journal, as virtual machines may have it, looks at each inode deleted in the last
    minutes before it makes a file (measured: 600 µs a file against 14), so that each sample would
    pay for the clearing up after the last.
    """
    if not _has("losetup", "mkfs.ext4", "mount"):
        yield False
        return
    image = directory.with_suffix(".ext4")
    _run("truncate", "-s", _SIZE, str(image))
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image))
    device = _run("losetup", "--show", "--direct-io=on", "-f", str(image))
    try:
        _run("mount", "-o", "noatime", device, str(directory))
        try:
            yield True
        finally:
            _run("umount", str(directory))
    finally:
        _run("losetup", "-d", device)
        image.unlink()


@dataclass(frozen=True)
class Link:
    """A network namespace reached over a link of known speed."""

    address: str
    run_by: tuple[str, ...]
    bits_a_second: str


@contextlib.contextmanager
def link() -> Iterator[Link | None]:
    """A network namespace behind a 4 Gbit/s link (veth and a token bucket); None without root."""
    if not _has("ip", "tc"):
        yield None
        return
    name = f"fluidpy-{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    ours, theirs = f"fp{os.getpid()}a"[:15], f"fp{os.getpid()}b"[:15]
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _run("ip", "addr", "add", f"{_HOST}/30", "dev", ours)
        _run("ip", "link", "set", ours, "up")
        _run(*inside, "ip", "addr", "add", f"{_PEER}/30", "dev", theirs)
        _run(*inside, "ip", "link", "set", theirs, "up")
        _run(*inside, "ip", "link", "set", "lo", "up")
        shape = ("root", "tbf", "rate", _LINK_BITS, "burst", "4mb", "latency", "50ms")
        _run(*inside, "tc", "qdisc", "add", "dev", theirs, *shape)
        yield Link(_PEER, inside, _LINK_BITS)
    finally:
        _run("ip", "netns", "del", name)
