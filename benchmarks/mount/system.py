"""What a system is here: a way to show a tree as a directory, and the processes that do it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks.mount.reading import session_pids
from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench
from fluidpy.testing.servers.process_group import server_process, wait_until

MOUNT_SECONDS = 60.0
READ_AHEAD_KIBIBYTES = 1024
"""Peers leave the kernel's 128 KiB, and their requests would be no larger."""


@dataclass(frozen=True)
class Mounted:
    """A directory that shows the tree; `pids` tells the processes that serve it.

    `options` is how it was started (no secrets); `note` what a reader of the result should know.
    `background` are processes that read the disk whether anybody reads the directory or not.
    """

    directory: Path
    pids: Callable[[], list[int]]
    options: str = ""
    note: str = ""
    background: tuple[int, ...] = ()


Open: TypeAlias = Callable[[Bench, Tree], AbstractContextManager[Mounted]]


@dataclass(frozen=True)
class System:
    """A name for tables, what tells its version, and how a tree is mounted.

    `open_data` serves files whose bytes are read; `open_names` a million names, never read.
    """

    name: str
    version: Callable[[], str]
    open_data: Open
    open_names: Open


@contextlib.contextmanager
def served(
    directory: Path,
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    more_sessions: Sequence[int] = (),
) -> Iterator[Mounted]:
    """Runs a FUSE server in the foreground and unmounts and ends it on leaving.

    Raises ServerStartError with the end of its log when nothing is mounted within a minute.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with server_process(arguments, log, environment) as process:
        try:
            wait_until(lambda: os.path.ismount(directory), process, log, MOUNT_SECONDS)
            _raise_read_ahead(directory)
            sessions = (process.pid, *more_sessions)
            yield Mounted(
                directory,
                lambda: [pid for session in sessions for pid in session_pids(session)],
                " ".join(arguments),
            )
        finally:
            unmount(directory)


def _raise_read_ahead(directory: Path) -> None:
    """Gives the mount the kernel's read-ahead that fluidpy asks for when it is allowed to."""
    device = os.stat(directory).st_dev
    path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    with contextlib.suppress(PermissionError):
        path.write_text(str(READ_AHEAD_KIBIBYTES))


def unmount(directory: Path) -> None:
    """Unmounts what is mounted there; lazily when it stays busy for some seconds."""
    limit = time.monotonic() + 10
    while is_mount(directory):
        lazy = ["-l"] if time.monotonic() > limit else []
        done = subprocess.run(["umount", *lazy, str(directory)], capture_output=True, check=False)
        if done.returncode:
            if lazy:
                raise RuntimeError(f"umount -l {directory}: {done.stderr.decode().strip()}")
            time.sleep(0.1)


def is_mount(directory: Path) -> bool:
    """Also true of a mount whose server is gone, which `os.path.ismount` calls none."""
    wanted = os.path.realpath(directory.parent) + "/" + directory.name
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == wanted for line in lines)


@contextlib.contextmanager
def plain(bench: Bench, tree: Tree) -> Iterator[Mounted]:
    """The plain directory itself."""
    yield Mounted(tree.plain, list, "ext4 with a journal, noatime")


PLAIN = System("plain", lambda: "", plain, plain)
