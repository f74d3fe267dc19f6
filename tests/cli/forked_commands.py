"""Commands in forks of one process that has imported the command line already.

Starting Python and importing takes most of a short command's time. Each fork has the arguments,
environment, directory and pipes of a process of its own; only the imports happened earlier.
Commands whose environment says how Python itself starts must be run as processes.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[2]
_READ_LATE = ("FLUIDPY_", "XDG_", "SSL_", "HOME", "PATH", "TMPDIR", "PYTEST_")
"""Variables that are read when a command runs, not when Python starts or modules are imported."""
_IMPORTED = (
    "fluidpy.cli.application",
    "fluidpy.cli.source_check",
    "fluidpy.client.locate",
    "fluidpy.client.session",
    "fluidpy.fuse.mounting",
    "fluidpy.namespace.resolve",
    "fluidpy.namespace.resolve_unserved",
    "rich.progress",
)
_SERVERS: list[_ForkServer] = []


def may_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether a command of this environment finds in a fork what a new process would have."""
    return _early(environment) == _early(os.environ)


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if not k.startswith(_READ_LATE)}


def run_forked(
    words: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    stdin: bytes,
    timeout: float,
) -> subprocess.CompletedProcess[bytes]:
    """What `subprocess.run` of `python -m fluidpy` gives with its output captured.

    Raises subprocess.TimeoutExpired after ending the command.
    """
    if not _SERVERS:
        _SERVERS.append(_ForkServer())
    request = {"words": [*words], "environment": {**environment}, "directory": str(directory)}
    return _SERVERS[0].run(request, stdin, timeout)


class _ForkServer:
    """The process; it ends when this one closes its socket."""

    def __init__(self) -> None:
        """Returns before the imports are done: the first command waits for them."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**_early(os.environ), "PATH": os.environ["PATH"], "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)

    def run(
        self, request: Mapping[str, Any], stdin: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """One command, to its end and that of its output."""
        deadline = time.monotonic() + timeout
        reply, theirs = socket.socketpair()
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        with (
            reply,
            tempfile.TemporaryFile() as given,
            open(out, "rb", buffering=0) as output,
            open(err, "rb", buffering=0) as errors,
        ):
            given.write(stdin)
            given.seek(0)
            fds = [given.fileno(), to_out, to_err, theirs.fileno()]
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
            finally:
                theirs.close()
                os.close(to_out)
                os.close(to_err)
            reply.settimeout(timeout)
            pid = int(reply.recv(16))
            try:
                said = _read_all([output, errors], deadline)
                reply.settimeout(max(0.01, deadline - time.monotonic()))
                code = int(reply.recv(16))
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(request["words"], timeout) from None
        return subprocess.CompletedProcess(request["words"], code, said[0], said[1])


def _read_all(streams: Sequence[IO[bytes]], deadline: float) -> list[bytes]:
    """All that comes through some pipes until each is closed. Raises TimeoutError."""
    found = [bytearray() for _ in streams]
    with selectors.DefaultSelector() as selector:
        for stream, into in zip(streams, found, strict=True):
            selector.register(stream, selectors.EVENT_READ, into)
        while selector.get_map():
            ready = selector.select(max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if data := os.read(key.fd, 1 << 16):
                    key.data.extend(data)
                else:
                    selector.unregister(key.fileobj)
    return [bytes(one) for one in found]


def _serve(connection: socket.socket) -> int:
    """The server's loop; comes back in the forks, with the exit code of their command."""
    for name in _IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the watchers need no wait
    while True:
        data, fds, _, _ = socket.recv_fds(connection, 1 << 18, 4)
        if not data:
            return 0
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _watch(json.loads(data), fds)
        for fd in fds:
            os.close(fd)


def _watch(request: Mapping[str, Any], fds: Sequence[int]) -> int:
    """Forks once more and tells of the command's process: its pid, then how it ended."""
    pid = os.fork()
    if pid == 0:
        os.close(fds[3])
        return _command(request, fds[:3])
    for fd in fds[:3]:
        os.close(fd)
    with socket.socket(fileno=fds[3]) as reply, contextlib.suppress(BrokenPipeError):
        reply.send(str(pid).encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        reply.send(str(code).encode())
    os._exit(0)


def _command(request: Mapping[str, Any], pipes: Sequence[int]) -> int:
    from fluidpy.cli.main import main

    for fd, pipe in enumerate(pipes):
        os.dup2(pipe, fd)
        os.close(pipe)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.argv = ["fluidpy", *request["words"]]
    return main()


if __name__ == "__main__":
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
