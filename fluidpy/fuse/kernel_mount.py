"""Mounting and unmounting: by mount(2) with the privilege, else by `fusermount3`.

Nothing here looks into a mounted directory, so nothing here waits for a server.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from fluidpy.errors import MountError
from fluidpy.fuse.mount_table import FILE_SYSTEM_TYPE, mounted_at

DEVICE: Final = "/dev/fuse"

READ_AHEAD_KIB: Final = 4096
"""How far the kernel reads ahead of a sequential reader when we may say so: four of its largest
READs, so that some are on their way while one is copied (sequential, 1 MiB: 0.47, 4 MiB: 0.73,
8 MiB: 0.72 GiB/s on a busy machine of 2 cores)."""

# mount(2) and umount2(2), from <sys/mount.h>
_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOATIME: Final = 1024
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_CAP_SYS_ADMIN: Final = 21
"""Bit of the capability that mount(2) wants (capabilities(7))."""

_FUSERMOUNT_SECONDS: Final = 20.0
_USER_CONFIGURATION: Final = Path("/etc/fuse.conf")

_libc = ctypes.CDLL(None, use_errno=True)


class BusyMountError(MountError):
    """Somebody still uses the mount."""

    errno_code = errno.EBUSY


_NOT_YOURS: Final = "The directory must be your own; see also /etc/fuse.conf (mount_max)."
_NOT_ALLOWED: Final = (
    "Nothing may be mounted here, not even by root: start the container with --cap-add SYS_ADMIN "
    "and without no-new-privileges. fluid:// works without a mount."
)


def may_mount() -> bool:
    """Whether this process has CAP_SYS_ADMIN, which mount(2) wants."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def check_possible() -> None:
    """Raises MountError saying what this machine lacks for a mount."""
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_device(error) from error
    is_device = stat.S_ISCHR(os.fstat(fd).st_mode)
    os.close(fd)
    if not is_device:
        raise MountError(
            f"{DEVICE} is there, and it is not a device",
            cure="In a container, start it with --device /dev/fuse, and let its image have no such "
            "file.",
        )
    if not may_mount() and fusermount() is None:
        raise MountError(
            "mounting without privilege needs the program fusermount3, which is not installed",
            cure="Install the package fuse3 (as root: apt-get install fuse3), or run as root.",
        )


def _no_device(error: OSError) -> MountError:
    cures = {
        errno.ENOENT: "Load the kernel module (as root: modprobe fuse); in a container, start it "
        "with --device /dev/fuse.",
        errno.ENODEV: "Load the kernel module (as root: modprobe fuse).",
        errno.ENXIO: "Load the kernel module (as root: modprobe fuse).",
        errno.EACCES: "Let users open it (as root: chmod 666 /dev/fuse), or run as root.",
        errno.EPERM: "In a container, start it with --device /dev/fuse --cap-add SYS_ADMIN.",
    }
    cure = cures.get(error.errno or 0, "Without it, read the Dataset by its fluid:// URL.")
    return MountError(f"{DEVICE} cannot be opened: {error.strerror}", cure=cure)


def fusermount() -> str | None:
    """Where `fusermount3` is, if installed."""
    return shutil.which("fusermount3", path=os.environ.get("PATH", "") + ":/usr/bin:/bin")


def mount(directory: Path, source: str) -> int:
    """Mounts read-only and gives the device fd; the kernel's INIT request waits in it.

    `source` is what the table of mounts shows. Raises MountError.
    """
    if may_mount():
        try:
            return _mount_directly(directory, source)
        except PermissionError as error:
            if fusermount() is None:
                raise MountError(
                    f"mounting at {directory} is not permitted: {error.strerror}",
                    cure="In a container, start it with --device /dev/fuse --cap-add SYS_ADMIN "
                    "--security-opt apparmor=unconfined; fluid:// URLs work without a mount.",
                ) from error
    return _mount_by_fusermount(directory, source)


def _mount_directly(directory: Path, source: str) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_device(error) from error
    data = (
        f"fd={fd},rootmode={stat.S_IFDIR:o},user_id={os.geteuid()},group_id={os.getegid()},"
        "default_permissions,allow_other"
    )
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOATIME
    target = os.fsencode(directory)
    if _libc.mount(source.encode(), target, FILE_SYSTEM_TYPE.encode(), flags, data.encode()) == 0:
        return fd
    code = ctypes.get_errno()
    os.close(fd)
    if code in (errno.EPERM, errno.EACCES):  # EACCES: AppArmor's word for it
        raise PermissionError(code, os.strerror(code))
    raise MountError(
        f"mounting at {directory} failed: {os.strerror(code)}",
        cure="Look at the directory and its file system; `fluidpy doctor` says what is missing.",
    )


def _mount_by_fusermount(directory: Path, source: str) -> int:
    options = [
        "ro,nosuid,nodev,noatime,default_permissions",
        f"fsname={source}",
        f"subtype={FILE_SYSTEM_TYPE.partition('.')[2]}",
    ]
    if others_allowed():
        options.append("allow_other")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ours.settimeout(_FUSERMOUNT_SECONDS)
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        arguments = ["-o", ",".join(options), "--", os.fspath(directory)]
        completed = _run_fusermount(arguments, environment, (theirs.fileno(),))
        theirs.close()
        if completed.returncode != 0:
            said = _last_line(completed.stderr)
            raise MountError(
                f"fusermount3 could not mount at {directory}: {said}",
                cure=_NOT_ALLOWED if said.endswith(os.strerror(errno.EPERM)) else _NOT_YOURS,
            )
        return _receive_fd(ours)


def others_allowed() -> bool:
    """Whether users without privilege may let others look into their mounts (fuse.conf)."""
    try:
        lines = _USER_CONFIGURATION.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _run_fusermount(
    arguments: Sequence[str],
    environment: dict[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[bytes]:
    program = fusermount()
    if program is None:
        raise MountError(
            "the program fusermount3 is not installed",
            cure="Install the package fuse3 (as root: apt-get install fuse3).",
        )
    try:
        return subprocess.run(
            [program, *arguments],
            env=environment,
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_FUSERMOUNT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountError(
            f"fusermount3 failed: {error}",
            cure="Look whether `fusermount3` works for this user: `fluidpy doctor`.",
        ) from error


def _receive_fd(channel: socket.socket) -> int:
    try:
        _data, control, _flags, _address = channel.recvmsg(
            1, socket.CMSG_SPACE(array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except OSError as error:
        raise MountError(
            f"fusermount3 passed no device: {error}",
            cure="Look whether `fusermount3` works for this user: `fluidpy doctor`.",
        ) from error
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return array.array("i", data[:4])[0]
    raise MountError(
        "fusermount3 passed no device",
        cure="Look whether `fusermount3` works for this user: `fluidpy doctor`.",
    )


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def unmount(directory: Path, *, lazy: bool = False) -> None:
    """Unmounts. `lazy` takes it out of the tree now, and ends it when its last user does.

    Raises BusyMountError, MountError.
    """
    code = _umount2(directory, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))
    if code == errno.EPERM:
        _unmount_by_fusermount(directory, lazy=lazy)
    elif code == errno.EBUSY:
        raise BusyMountError(
            f"{directory} is in use", cure="Close what uses it, or unmount with --lazy."
        )
    elif code:
        raise MountError(
            f"unmounting {directory} failed: {os.strerror(code)}",
            cure="Look at the directory; unmount with --lazy.",
        )


def _umount2(directory: Path, flags: int) -> int:
    if _libc.umount2(os.fsencode(directory), flags) == 0:
        return 0
    return ctypes.get_errno()


def _unmount_by_fusermount(directory: Path, *, lazy: bool) -> None:
    arguments = ["-u", *(["-z"] if lazy else []), "--", os.fspath(directory)]
    completed = _run_fusermount(arguments)
    if completed.returncode != 0:
        said = _last_line(completed.stderr)
        if "busy" in said.lower():
            raise BusyMountError(
                f"{directory} is in use", cure="Close what uses it, or unmount with --lazy."
            )
        raise MountError(
            f"fusermount3 could not unmount {directory}: {said}",
            cure="Close what uses it, or unmount with --lazy.",
        )


def take_down(directory: Path, device: str = "") -> None:
    """Ends a mount whatever its state: waiting requests fail, and it leaves the tree.

    For a mount whose server is gone; who still has files of it open gets errors. With a `device`
    (`MAJOR:MINOR`) another mount that lies there by now is left alone. Nothing to do is no error.
    Raises MountError.
    """
    point = mounted_at(directory)
    if point is None or not point.ours or device not in ("", point.device):
        return
    abort = Path(f"/sys/fs/fuse/connections/{point.device.partition(':')[2]}/abort")
    with suppress(OSError):  # only where the control file system is mounted, and it is our mount
        abort.write_text("1")
    _umount2(directory, _UMOUNT_NOFOLLOW | _MNT_FORCE)  # fails the requests; it may be busy
    if mounted_at(directory) is not None:
        unmount(directory, lazy=True)


def raise_read_ahead(directory: Path) -> bool:
    """Widens the kernel's read-ahead on this mount, where that is allowed; says whether it was."""
    point = mounted_at(directory)
    if point is None:
        return False
    try:
        Path(f"/sys/class/bdi/{point.device}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))
    except OSError:  # not root, or /sys is read-only: 128 KiB then
        return False
    return True
