"""Starting a server as a process group of its own, and ending all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


class ServerStartError(RuntimeError):
    """A server for tests did not come up; the message has the end of its log."""


def free_ports(count: int, *, also: int = 0) -> list[int]:
    """Loopback TCP ports nobody listens on, each with `port + also` free too.

    Another process may take one before the server does; the caller starts again then.
    """
    found: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(found) < count:
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(socket.socket())]
                sockets[0].bind(("127.0.0.1", 0))
                port = sockets[0].getsockname()[1]
                if also:
                    if port + also > 65535:
                        continue
                    sockets.append(stack.enter_context(socket.socket()))
                    try:
                        sockets[1].bind(("127.0.0.1", port + also))
                    except OSError:
                        continue
                stack.pop_all()
                held += sockets
                found.append(port)
    finally:
        for opened in held:
            opened.close()
    return found


@contextlib.contextmanager
def server_process(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server in a session of its own, its output in `log`; ends the whole group.

    `environment` is added to that of this process.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # A server for tests keeps nothing worth an orderly stop.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float
) -> None:
    """Polls `ready` until it is true. Raises ServerStartError with the end of the log."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise ServerStartError(f"the server ended with {process.returncode}: {_tail(log)}")
        if time.monotonic() > end:
            raise ServerStartError(f"the server is not ready after {seconds:g} s: {_tail(log)}")
        time.sleep(0.02)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
