"""Every process of one machine of a benchmark by what it is, and its private memory over time."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_MIB = 1024 * 1024

ROLES = {
    "fluidpy.worker": "worker",
    "fluidpy.fuse.holder": "holder",
    "fluidpy.fuse.server": "server",
    "fluidpy.fuse.spare": "spare",
    "fluidpy.fuse.template_process": "template",
}
"""What a process is by the module that its command line runs; anything else is a command."""

MOUNT_ROLES = frozenset(ROLES.values())
"""All that a mount at rest consists of."""

_SAMPLE_SECONDS = 1.0


def role(command: Sequence[str]) -> str:
    """What a process with this command line is: a value of `ROLES`, or `command`."""
    with suppress(ValueError, IndexError):
        return ROLES.get(command[command.index("-m") + 1], "command")
    return "command"


def find_processes(runtime_directory: Path) -> Iterator[tuple[str, int]]:
    """Role and pid of each process that was started with this `FLUIDPY_RUNTIME_DIR`."""
    wanted = f"FLUIDPY_RUNTIME_DIR={runtime_directory}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):  # it has ended, or is another user's
            if wanted not in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                continue
            command = Path(f"/proc/{name}/cmdline").read_text(errors="replace").split("\0")
            if command != [""]:  # a zombie has none
                yield role(command), int(name)


def private_bytes(pid: int) -> int:
    """Private memory of a process in bytes (`Private_Clean + Private_Dirty` of smaps_rollup)."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def memory_by_role(
    processes: Iterable[tuple[str, int]], bytes_of: Callable[[int], int] = private_bytes
) -> dict[str, int]:
    """Private bytes by role, of all processes of one role together; ended ones are left out."""
    found: defaultdict[str, int] = defaultdict(int)
    for name, pid in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            size = bytes_of(pid)
            found[name] += size
    return dict(found)


def missing_roles(memory: Mapping[str, int]) -> list[str]:
    """What a mount consists of and has no process for."""
    return sorted(MOUNT_ROLES - memory.keys())


class MemorySampler(threading.Thread):
    """Adds up the private memory of all processes once a second, and looks for them anew each time.

    `totals` (MiB) has a value a sample, `by_role` (MiB) the highest of each role.
    """

    def __init__(self, find: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """`find` answers role and pid of each process there is."""
        super().__init__(daemon=True)
        self._find = find
        self._finished = threading.Event()
        self._failure: Exception | None = None
        self._missing: defaultdict[str, int] = defaultdict(int)
        self.totals: list[float] = []
        self.by_role: dict[str, float] = {}

    def run(self) -> None:
        """Takes samples until `finish`."""
        try:
            self._sample()
            while not self._finished.wait(_SAMPLE_SECONDS):
                self._sample()
            self._sample()
        except Exception as error:  # noqa: BLE001  # told by `finish`, whatever it is
            self._failure = error

    def _sample(self) -> None:
        memory = memory_by_role(self._find())
        for name in missing_roles(memory):
            self._missing[name] += 1
        self.totals.append(sum(memory.values()) / _MIB)
        for name, size in memory.items():
            self.by_role[name] = max(size / _MIB, self.by_role.get(name, 0.0))

    def finish(self) -> None:
        """Takes the last sample. Raises RuntimeError when the samples are not those of a whole
        mount: one failed, or a process was not there.
        """
        self._finished.set()
        self.join()
        if self._failure is not None:
            raise RuntimeError(f"a sample of memory failed: {self._failure}") from self._failure
        if self._missing:
            missing = ", ".join(f"{name} in {count}" for name, count in self._missing.items())
            raise RuntimeError(
                f"of {len(self.totals)} samples of memory there was no {missing}; "
                "only root sees all processes of a mount"
            )
