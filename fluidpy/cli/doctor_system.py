"""`doctor`'s checks of the machine: Python, libraries, kernel, FUSE."""

from __future__ import annotations

import os
import platform
import stat
import sys
from importlib import metadata
from pathlib import Path

from fluidpy.cli.findings import Finding, Verdict
from fluidpy.fuse.kernel_mount import fusermount

# linux/capability.h
CAP_SYS_ADMIN = 21
# Answering OPEN with ENOSYS came with Linux 3.16, FOPEN_PASSTHROUGH with 6.9.
KERNEL_AT_LEAST = (5, 4)
"""The first kernel that speaks FUSE 7.31, the oldest that a mount takes (`fuse/kernel.py`)."""

_LIBRARIES = {
    "fsspec": "",
    "pydantic": "",
    "PyYAML": "",
    "obstore": "worker",
    "stamina": "worker",
    "crc32c": "worker",
    "aiohttp": "worker",
    "typer": "cli",
    "rich": "cli",
    "s3fs": "s3",
    "ossfs": "oss",
}
_OPTIONAL_EXTRAS = {"s3", "oss"}


def check_system() -> list[Finding]:
    """Python, libraries, the `fluid://` registration, kernel and FUSE."""
    return [
        check_python(sys.version_info[:3]),
        *check_libraries(),
        check_registration(),
        check_kernel(platform.release()),
        check_fuse_device(Path("/dev/fuse")),
        check_fusermount(os.geteuid(), fusermount()),
        check_capabilities(
            effective_capabilities(), mounting_obstacle(Path("/proc/self/status").read_text())
        ),
        check_read_modes(platform.release(), effective_capabilities()),
    ]


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python can run fluidpy."""
    text = ".".join(str(part) for part in version)
    if version < (3, 11):
        return Finding(
            "python", Verdict.BROKEN, f"Python {text} is too old", "Use Python 3.11 or newer."
        )
    return Finding("python", Verdict.OK, f"Python {text} at {sys.executable}")


def check_libraries() -> list[Finding]:
    """The version of each library, or the extra that installs it."""
    versions = {name: _version(name) for name in _LIBRARIES}
    present = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    findings = [Finding("libraries", Verdict.OK, f"fluidpy {_version('fluidpy')}, {present}")]
    missing: dict[str, list[str]] = {}
    for name, version in versions.items():
        if not version:
            missing.setdefault(_LIBRARIES[name], []).append(name)
    for extra, names in missing.items():
        verdict = Verdict.NOTE if extra in _OPTIONAL_EXTRAS else Verdict.BROKEN
        wanted = f"fluidpy[{extra}]" if extra else "fluidpy"
        message = f"not installed: {', '.join(names)}"
        findings.append(Finding("libraries", verdict, message, f"pip install '{wanted}'"))
    return findings


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def check_registration() -> Finding:
    """Whether fsspec finds `fluid://` by its entry point."""
    registered = [e.value for e in metadata.entry_points(group="fsspec.specs", name="fluid")]
    if not registered:
        return Finding(
            "fluid-url",
            Verdict.BROKEN,
            "fsspec does not know fluid:// (its entry point is missing)",
            "Install fluidpy with pip instead of only putting its folder on the path.",
        )
    return Finding("fluid-url", Verdict.OK, f"fluid:// is {registered[0]}")


def check_kernel(release: str) -> Finding:
    """What the kernel's FUSE can do."""
    version = kernel_version(release)
    if version < KERNEL_AT_LEAST:
        return Finding(
            "kernel",
            Verdict.BROKEN,
            f"Linux {release} is older than 5.4, so that nothing can be mounted here",
            "Use a newer kernel, or read Datasets by their fluid:// URLs.",
        )
    return Finding("kernel", Verdict.OK, f"Linux {release}")


def kernel_version(release: str) -> tuple[int, int]:
    """Major and minor of a release such as `6.1.0-18-amd64`; (0, 0) when it is not of that form."""
    parts = release.split("-")[0].split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return 0, 0


def check_fuse_device(device: Path) -> Finding:
    """Whether `/dev/fuse` is there and may be opened."""
    try:
        mode = device.stat().st_mode
        if not stat.S_ISCHR(mode):
            raise OSError("it is not a device")
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Finding(
            "fuse-device",
            Verdict.BROKEN,
            f"{device} is missing: nothing can be mounted here (fluid:// works without it)",
            "modprobe fuse; for a container: --device /dev/fuse --cap-add SYS_ADMIN",
        )
    except OSError as error:
        return Finding(
            "fuse-device",
            Verdict.BROKEN,
            f"{device} cannot be opened: {error.strerror or error}",
            f"chmod 666 {device}; for a container: --device /dev/fuse",
        )
    return Finding("fuse-device", Verdict.OK, f"{device} can be opened")


def check_fusermount(user: int, program: str | None) -> Finding:
    """Whether this user can mount; only root can without `fusermount3`."""
    if program is None:
        message = "fusermount3 is not installed"
        if user == 0:
            return Finding("fusermount3", Verdict.OK, f"{message}; root mounts without it")
        cure = "sudo apt-get install -y fuse3"
        return Finding("fusermount3", Verdict.BROKEN, f"{message}: only root can mount", cure)
    if user != 0 and not Path(program).stat().st_mode & stat.S_ISUID:
        return Finding(
            "fusermount3",
            Verdict.BROKEN,
            f"{program} is not setuid root: only root can mount",
            f"sudo chown root {program} && sudo chmod u+s {program}",
        )
    return Finding("fusermount3", Verdict.OK, program)


def effective_capabilities() -> int:
    """The effective capability mask of this process (`CapEff` of proc(5)); 0 if it is not told."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    except (OSError, ValueError, IndexError):
        return 0
    return 0


def mounting_obstacle(status: str) -> str:
    """What keeps fusermount3 from the right to mount, by `/proc/self/status`; empty if nothing.

    It is set-uid: a container may have taken CAP_SYS_ADMIN from whatever starts, or set-uid itself.
    """
    facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if not int(facts.get("CapBnd", "-1"), 16) >> CAP_SYS_ADMIN & 1:
        return "this container leaves CAP_SYS_ADMIN to no program"
    if facts.get("NoNewPrivs", "0").strip() == "1":
        return "no-new-privileges keeps fusermount3 from mounting"
    return ""


def check_capabilities(mask: int, obstacle: str = "") -> Finding:
    """How this user mounts: mount(2) needs CAP_SYS_ADMIN. `obstacle`: see `mounting_obstacle`."""
    if mask & (1 << CAP_SYS_ADMIN):
        return Finding("capabilities", Verdict.OK, "CAP_SYS_ADMIN: mounts need no other program")
    if obstacle:
        return Finding(
            "capabilities",
            Verdict.BROKEN,
            f"nothing can be mounted: {obstacle}",
            "Start the container with --cap-add SYS_ADMIN and without no-new-privileges; "
            "fluid:// works without a mount.",
        )
    return Finding("capabilities", Verdict.OK, "no CAP_SYS_ADMIN: mounts are made by fusermount3")


def check_read_modes(release: str, mask: int) -> Finding:
    """How a mount may read here; nothing of it is broken, for the plain way always works."""
    from fluidpy.fuse.read_mode_checks import passthrough_obstacle

    may_mount = bool(mask & (1 << CAP_SYS_ADMIN))
    if obstacle := passthrough_obstacle(release, may_mount=may_mount):
        message = f"no-open, plain; not passthrough: {obstacle}"
        return Finding("read-modes", Verdict.OK, message)
    return Finding("read-modes", Verdict.OK, "no-open, passthrough, plain")
