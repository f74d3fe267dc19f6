"""The store with known files that a plug-in is tested on, as its manifest describes it.

Files get there without the plug-in, which so never vouches for itself: they are written below the
bed's directory, or handed to the manifest's `put`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fluidpy.control import linux_processes as linux
from fluidpy.errors import RuntimePluginError
from fluidpy.runtime.manifest import ConformanceSection, Manifest
from fluidpy.runtime.placeholders import filled
from fluidpy.storage.under_storage import MountSource

SERVER_SECONDS: Final = 20.0
PUT_SECONDS: Final = 20.0
END_SECONDS: Final = 5.0
"""How long a server that has closed its output is taken to be about to end."""
KILL_SECONDS: Final = 10.0
"""How long a process that was killed may take to be gone."""
_LONG_AGO: Final = 1_700_000_000
"""Files are dated from here on, a second apart: a file changed just now has no version yet."""


@dataclass(slots=True)
class TestBed:
    """One store under test; `directory` is what `{directory}` stands for."""

    __test__ = False  # for pytest

    directory: Path
    mount_point: str
    folder: Path
    """The plug-in's folder, where its commands run."""
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    refused: Mapping[str, str] = field(default_factory=dict, repr=False)
    port: int = 0
    put_command: Sequence[str] = ()
    _puts: int = 0

    @property
    def all_secrets(self) -> tuple[str, ...]:
        """Every secret value that must be seen nowhere."""
        return tuple(dict.fromkeys((*self.secrets.values(), *self.refused.values())))

    @property
    def puts_are_quick(self) -> bool:
        """Whether many files may be put: no program is started for each."""
        return not self.put_command

    def source(self, secrets: Mapping[str, str] | None = None) -> MountSource:
        """The mount as a worker would get it; other `secrets` may be tried."""
        own = self.secrets if secrets is None else secrets
        return MountSource(self.mount_point, "test", dict(self.options), dict(own))

    def put(self, files: Mapping[str, bytes]) -> None:
        """Writes or replaces files. Raises RuntimePluginError when the manifest's `put` fails."""
        for path, data in files.items():
            self._puts += 1
            if self.put_command:
                self._put_by_command(path, data)
                continue
            file = self.directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            os.utime(file, (_LONG_AGO + self._puts,) * 2)

    def _put_by_command(self, path: str, data: bytes) -> None:
        values = {"directory": str(self.directory), "port": str(self.port), "path": path}
        command = [filled(word, values.__getitem__) for word in self.put_command]
        try:
            done = subprocess.run(
                command,
                input=data,
                capture_output=True,
                cwd=self.folder,
                env=_with_own_python(),
                timeout=PUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _put_failed(path, str(error)) from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip() or f"status {done.returncode}"
            raise _put_failed(path, said.splitlines()[-1])

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values for another process, secrets included."""
        return {
            "directory": str(self.directory),
            "mount_point": self.mount_point,
            "folder": str(self.folder),
            "options": dict(self.options),
            "secrets": dict(self.secrets),
            "refused": dict(self.refused),
            "port": self.port,
            "put_command": list(self.put_command),
            "_puts": self._puts,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> TestBed:
        """The bed that `to_wire` described."""
        paths = {name: Path(wire[name]) for name in ("directory", "folder")}
        return cls(**{**wire, **paths})


def _put_failed(path: str, said: str) -> RuntimePluginError:
    return RuntimePluginError(
        f"conformance.put did not store {path!r}: {said}",
        cure="Run the command by hand; it gets the bytes on stdin and the path as {path}.",
    )


@contextlib.contextmanager
def test_bed(manifest: Manifest, folder: Path, directory: Path) -> Iterator[TestBed]:
    """The bed that a manifest describes, its server running.

    Raises RuntimePluginError when the manifest describes none, or the server does not come up.
    """
    section = manifest.conformance
    if section is None:
        raise RuntimePluginError(
            f"{folder}: the manifest does not say how the plug-in is tested",
            cure="Add a section 'conformance' with mountPoint and options; docs/runtimes.md has "
            "examples.",
        )
    values = {"directory": str(directory), "port": str(_free_port())}
    bed = TestBed(
        directory=directory,
        mount_point=filled(section.mount_point, values.__getitem__),
        folder=folder,
        options={k: filled(v, values.__getitem__) for k, v in section.options.items()},
        secrets=dict(section.secrets),
        refused=dict(section.refused),
        port=int(values["port"]),
        put_command=tuple(section.put),
    )
    with _server(section, folder, values):
        yield bed


test_bed.__test__ = False  # type: ignore[attr-defined]  # pytest's mark on a function


def _with_own_python() -> dict[str, str]:
    """This environment, in which `python3` is the one that has fluidpy."""
    own = os.path.dirname(sys.executable)  # noqa: PTH120 - text, and no link is followed
    return {**os.environ, "PATH": f"{own}:{os.environ.get('PATH', os.defpath)}"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _server(section: ConformanceSection, folder: Path, values: Mapping[str, str]) -> Iterator[None]:
    if not section.server:
        yield
        return
    command = [filled(word, values.__getitem__) for word in section.server]
    try:
        environment = _with_own_python()
        _look_for(command[0], folder, environment["PATH"])
        process = subprocess.Popen(
            linux.ending_with(os.getpid(), command),  # also when the test itself is killed
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _no_server(command[0], str(error)) from error
    try:
        assert process.stdout is not None
        _await_line(process, command[0])
        yield
    finally:
        assert process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await_killed(process, f"conformance.server ({command[0]})")


def _look_for(program: str, folder: Path, path: str) -> None:
    """Raises FileNotFoundError for a program that is not there, or cannot be run."""
    if shutil.which(str(folder / program) if "/" in program else program, path=path) is None:
        raise FileNotFoundError(errno.ENOENT, "it is not there, or is no program", program)


def _await_line(process: subprocess.Popen[bytes], name: str) -> None:
    assert process.stdout is not None
    limit = time.monotonic() + SERVER_SECONDS
    ready, _, _ = select.select([process.stdout], [], [], limit - time.monotonic())
    if not ready:
        raise _no_server(name, f"it printed no line within {SERVER_SECONDS:g} s")
    if not os.read(process.stdout.fileno(), 65536):
        raise _no_server(name, _silent_end(process))


def _silent_end(process: subprocess.Popen[bytes]) -> str:
    try:
        return f"it ended with status {process.wait(END_SECONDS)}"
    except subprocess.TimeoutExpired:
        return "it closed its standard output and had printed nothing"


def await_killed(process: subprocess.Popen[bytes], name: str) -> None:
    """Waits for the end of a process that was killed. Raises RuntimePluginError."""
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        raise RuntimePluginError(
            f"{name} was killed and does not end: process {process.pid} waits in the kernel, as "
            "for a file system that does not answer",
            cure="Unmount that, or restore its store; the process ends then.",
        ) from None


def _no_server(name: str, said: str) -> RuntimePluginError:
    return RuntimePluginError(
        f"conformance.server ({name}) does not serve: {said}",
        cure="It has to stay in the foreground, and to print a line once it is ready.",
    )
