"""A real distributed POSIX store for tests: MooseFS from Debian, in a network namespace of its own.

    if reason := moosefs_missing():
        pytest.skip(reason)
    with moosefs(directory) as store:
        with store.mounted(target):
            (target / "a.bin").write_bytes(b"...")

MooseFS refuses loopback addresses, so that master, chunkserver and clients run in a network
namespace whose `lo` has an address that nobody else sees. Several can run side by side. Needs root,
`moosefs-master`, `moosefs-chunkserver`, `moosefs-client`, `iproute2` and /dev/fuse.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fluidpy.testing.servers.process_group import server_process, wait_until

ADDRESS = "10.213.0.1"
"""On `lo` of the namespace alone."""
READY_SECONDS = 30.0
FILESYSTEM_TYPE = "fuse"
"""What the kernel calls a mount of it (as root mfsmount names no subtype)."""
_PROGRAMS = {
    "mfsmaster": "moosefs-master",
    "mfschunkserver": "moosefs-chunkserver",
    "mfsmount": "moosefs-client",
    "ip": "iproute2",
    "nsenter": "util-linux",
}
_NEW_METADATA = b"MFSM NEW"
"""What a master without any data starts from."""


def moosefs_missing() -> str:
    """Why MooseFS cannot run here; empty when it can."""
    if os.geteuid() != 0:
        return "MooseFS needs root here: a network namespace and a mount"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    packages = sorted({of for name, of in _PROGRAMS.items() if _program(name) is None})
    return f"not installed: {', '.join(packages)}" if packages else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(slots=True)
class MooseServer:
    """A running store; its chunkserver may be ended and started while others read."""

    directory: Path
    enter: tuple[str, ...]
    """Words before a command, so that it runs in the store's network."""
    _chunkserver: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def mount_command(self, target: Path, *options: str) -> tuple[str, ...]:
        """The client in the foreground, in the store's network."""
        client = _program("mfsmount") or "mfsmount"
        words = [client, "-f", "-H", ADDRESS, *(f"-o{option}" for option in options)]
        return (*self.enter, *words, os.fspath(target))

    @contextlib.contextmanager
    def mounted(self, target: Path, *options: str) -> Iterator[Path]:
        """The store mounted at a directory, which is made if need be; it can be written to."""
        target.mkdir(parents=True, exist_ok=True)
        log = self.directory / f"client-{time.monotonic_ns()}.log"
        with server_process(self.mount_command(target, *options), log) as process:
            try:
                wait_until(lambda: _has_room(target), process, log, READY_SECONDS)
                yield target
            finally:
                subprocess.run(["umount", "-l", target], check=False, capture_output=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)

    def start_chunkserver(self) -> None:
        """Starts the one chunkserver; returns when it listens and the master knows it."""
        log = self.directory / "chunkserver.log"
        arguments = self._daemon("mfschunkserver")
        process = self._chunkserver.enter_context(server_process(arguments, log))
        wait_until(lambda: b"connected to Master" in log.read_bytes(), process, log, READY_SECONDS)

    def kill_chunkserver(self) -> None:
        """Ends it by SIGKILL: its bytes are gone until it is started again."""
        self._chunkserver.close()

    def _daemon(self, name: str) -> Sequence[str]:
        config = self.directory / f"{name}.cfg"
        return [*self.enter, _program(name) or name, "-c", os.fspath(config), "-f", "-u", "start"]


@contextlib.contextmanager
def moosefs(directory: Path) -> Iterator[MooseServer]:
    """A store with a master and one chunkserver, all it keeps below `directory`."""
    _write_configuration(directory)
    log = directory / "namespace.log"
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(server_process(["unshare", "--net", "sleep", "infinity"], log))
        enter = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
        wait_until(lambda: _is_apart(holder.pid), holder, log, READY_SECONDS)
        for words in (f"address add {ADDRESS}/32 dev lo", "link set lo up"):
            subprocess.run([*enter, _program("ip") or "ip", *words.split()], check=True)
        server = MooseServer(directory, enter)
        stack.callback(server.kill_chunkserver)
        _start_master(server, stack)
        server.start_chunkserver()
        yield server


def _has_room(target: Path) -> bool:
    """Whether it is mounted and a chunkserver has told its space: before, no write would do."""
    return os.path.ismount(target) and os.statvfs(target).f_blocks > 0


def _is_apart(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino


def _start_master(server: MooseServer, stack: contextlib.ExitStack) -> None:
    log = server.directory / "master.log"
    arguments = server._daemon("mfsmaster")
    process = stack.enter_context(server_process(arguments, log))
    wait_until(lambda: b"initialized properly" in log.read_bytes(), process, log, READY_SECONDS)


def _write_configuration(directory: Path) -> None:
    for name in ("master", "chunkserver", "chunks"):
        (directory / name).mkdir(parents=True)
    (directory / "master" / "metadata.mfs").write_bytes(_NEW_METADATA)
    (directory / "exports.cfg").write_text("* / rw,alldirs,maproot=0\n* . rw\n")
    (directory / "disks.cfg").write_text(f"{directory / 'chunks'}\n")
    (directory / "topology.cfg").write_text("")
    common = "WORKING_USER = root\nWORKING_GROUP = root\nNICE_LEVEL = 0\nDISABLE_OOM_KILLER = 0\n"
    (directory / "mfsmaster.cfg").write_text(
        f"{common}DATA_PATH = {directory / 'master'}\n"
        f"EXPORTS_FILENAME = {directory / 'exports.cfg'}\n"
        f"TOPOLOGY_FILENAME = {directory / 'topology.cfg'}\n"
        f"MATOML_LISTEN_HOST = {ADDRESS}\nMATOCS_LISTEN_HOST = {ADDRESS}\n"
        f"MATOCL_LISTEN_HOST = {ADDRESS}\n"
    )
    (directory / "mfschunkserver.cfg").write_text(
        f"{common}DATA_PATH = {directory / 'chunkserver'}\n"
        f"HDD_CONF_FILENAME = {directory / 'disks.cfg'}\n"
        f"MASTER_HOST = {ADDRESS}\nCSSERV_LISTEN_HOST = {ADDRESS}\nBIND_HOST = {ADDRESS}\n"
        "HDD_LEAVE_SPACE_DEFAULT = 1MiB\nMASTER_RECONNECTION_DELAY = 1\n"
    )
