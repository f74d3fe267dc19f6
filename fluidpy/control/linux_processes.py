"""What Linux offers for processes that mount: death signals, orphans, a view of their own.

`prctl(2)`, `unshare(2)` and `mount(2)`, which Python 3.11 does not have, by way of libc. The mount
table is read without touching any mount, so nothing here waits for a file system's server.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from fluidpy.cache.directory import MountFact, mount_of, read_mount_table

# <sys/prctl.h>, <sched.h>, <sys/mount.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_CLONE_NEWNS: Final = 0x20000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000
_MS_SLAVE: Final = 0x80000
_MS_SHARED: Final = 0x100000
_MNT_DETACH: Final = 2

UNMOUNT_SECONDS: Final = 10.0
"""How long an orderly unmount may take: it may wait for a server that does not answer."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def adopt_orphans() -> None:
    """Processes whose parent ends become children of this one."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """This process is killed when its parent ends."""
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


_ENDING_WITH: Final = f"""\
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("whoever started it has ended")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{{sys.argv[2]}} cannot be started: {{error.strerror}}")
"""


def ending_with(parent: int, arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments of a program that is killed when the thread that starts it ends.

    `parent` is the process that starts it. A hook between fork and exec could hang in a process
    that has threads; here the program's own process asks the kernel for it.
    """
    return (sys.executable, "-I", "-S", "-c", _ENDING_WITH, str(parent), *arguments)


def mount_table(pid: int | str = "self") -> list[MountFact]:
    """The mounts that a process sees, in the order they were made; none if it has ended.

    Raises OSError if this process's own cannot be read: whoever removes something must not take
    that for "nothing is mounted".
    """
    try:
        return read_mount_table(pid)
    except OSError:
        if pid == "self":
            raise
        return []


def as_mounted(path: str | Path) -> str:
    """A path as the mount table has it: without links above it. What is mounted is not asked."""
    parent, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - keeps what it names
    return os.path.join(os.path.realpath(parent), name)  # noqa: PTH118


def type_at(target: str, table: Iterable[MountFact]) -> str | None:
    """The file system type of the uppermost mount at a directory; None if there is none."""
    found, target = None, as_mounted(target)
    for mount in table:
        if mount.mount_point == target:
            found = mount.kind
    return found


def share(directory: Path) -> None:
    """Makes a directory a mount whose mounts appear in the views that were taken from this one.

    Raises OSError.
    """
    place = os.fsencode(directory)
    _call("mount", place, place, None, _MS_BIND, None)
    # Two steps: of a shared mount the bind would belong to its group, and show all mounts twice.
    _call("mount", None, place, None, _MS_PRIVATE, None)
    _call("mount", None, place, None, _MS_SHARED, None)


def take_own_view(binds: Mapping[str, str]) -> None:
    """From now on this process sees directories at other places: place → directory.

    What is mounted elsewhere goes on to be seen by all. Raises OSError.
    """
    _call("unshare", _CLONE_NEWNS)
    for place, directory in binds.items():
        holder = mount_of(place, mount_table())
        if holder is not None:  # else the bind would show to all
            _call("mount", None, os.fsencode(holder.mount_point), None, _MS_SLAVE, None)
        _call("mount", os.fsencode(directory), os.fsencode(place), None, _MS_BIND | _MS_REC, None)


def may_mount() -> bool:
    """Whether this process has CAP_SYS_ADMIN (bit 21 of its capabilities)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 21 & 1)
    return False


def unmount(target: str, command: Iterable[str] = ()) -> None:
    """Takes away what is mounted at a directory, by `command` or in order, else by force."""
    orderly = list(command) or (
        ["umount", target] if may_mount() else ["fusermount3", "-u", target]
    )
    if type_at(target, mount_table()) is not None:
        _run(orderly)
    while type_at(target, mount_table()) is not None:
        if not _detach(target):
            return


def unmount_below(directory: str) -> None:
    """Takes away, by force, what else is mounted below a directory."""
    directory = as_mounted(directory)
    for mount in reversed(mount_table()):
        if mount.mount_point.startswith(f"{directory}/"):
            _detach(mount.mount_point)


def remove_tree(directory: Path) -> None:
    """Removes a directory with all it holds, but nothing of what is mounted below it.

    What is mounted there is somebody's data: it is unmounted first. Raises OSError if it stays.
    """
    unmount_below(str(directory))
    refuse_mounts(directory)
    shutil.rmtree(directory, ignore_errors=True)


def refuse_mounts(directory: Path) -> None:
    """Raises OSError (EBUSY) if anything is mounted at a directory or below it."""
    own = as_mounted(directory)
    for mount in mount_table():
        if mount.mount_point == own or mount.mount_point.startswith(f"{own}/"):
            raise OSError(errno.EBUSY, f"{mount.mount_point} is mounted, and stays as it is")


def _detach(target: str) -> bool:
    if may_mount():
        with contextlib.suppress(OSError):
            _call("umount2", os.fsencode(target), _MNT_DETACH)
            return True
        return False
    return _run(["fusermount3", "-u", "-z", target])


def _run(arguments: list[str]) -> bool:
    try:
        return (
            subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=UNMOUNT_SECONDS,
                cwd="/",
                check=False,
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def children() -> list[int]:
    """Process ids of this process's children, orphans that it adopted among them."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in found.split()]


def reap_children(besides: Container[int]) -> None:
    """Lets go of children that have ended, but for those whose ends somebody waits for."""
    for pid in children():
        if pid not in besides:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def kill_children() -> None:
    """Kills all processes below this one, and waits for their ends."""
    while pids := children():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def processes_with(variable: str, value: str) -> list[int]:
    """Processes of this user whose environment has that value: those of a supervisor that died."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
