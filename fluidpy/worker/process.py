"""The worker as a process: its place, socket, signals and log.

One worker a user: whoever has the place (`place`). A second one sees that the first serves, says
`ready` and ends well, since its clients will find the first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.start import connect, prepare_runtime_directory
from fluidpy.errors import FluidpyError, WorkerStartError
from fluidpy.settings import Settings, load_settings
from fluidpy.telemetry.logs import log_to_stderr
from fluidpy.worker.memory import keep_buffers
from fluidpy.worker.place import await_predecessor, take_place

_log = logging.getLogger(__name__)

LINGER_SECONDS: Final = 1.0
"""How long threads may take to end after a clean stop."""

BACKLOG: Final = 128
"""Clients that may connect at the same moment (training workers start together)."""


def main(arguments: Sequence[str]) -> int:
    """Runs the worker until its end; the exit code. Failures go to stderr and the ready pipe."""
    parser = argparse.ArgumentParser(prog="python -m fluidpy.worker")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="write `ready` to this pipe")
    ready_fd: int | None = parser.parse_args(arguments).ready_fd
    log_to_stderr()
    try:
        run_worker(load_settings(), ready_fd)
    except FluidpyError as error:
        _log.error("%s", error)
        _tell(ready_fd, json.dumps(error.to_wire()))
        return error.exit_code
    return 0


def run_worker(settings: Settings, ready_fd: int | None) -> None:
    """Serves until told to stop or idle. Raises WorkerStartError, WorkerError, CacheError."""
    os.umask(0o077)
    if ready_fd is not None and not settings.runtime_dir.is_dir():
        # A client made it before it started us: whoever removed it wants no worker in it.
        raise WorkerStartError(
            f"the runtime directory {settings.runtime_dir} was removed meanwhile",
            cure="Try again, or set FLUIDPY_RUNTIME_DIR.",
        )
    prepare_runtime_directory(settings.runtime_dir)
    place = take_place(settings.runtime_dir, lambda: _serves(settings))
    if place is None:
        _log.info("another worker serves %s already", settings.worker_socket)
        _tell(ready_fd, "ready")
        return
    try:
        await_predecessor(place)
        _raise_descriptor_limit()
        with _listening(settings.worker_socket) as listener:
            asyncio.run(_serve(settings, listener, ready_fd))
    finally:
        os.close(place)


async def _serve(settings: Settings, listener: socket.socket, ready_fd: int | None) -> None:
    gc.disable()  # nothing that is imported is garbage: a tenth of the start
    from fluidpy.worker.worker import Worker

    keep_buffers()
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop, signal.Signals(number).name)
    await worker.start()
    gc.collect()
    gc.freeze()
    gc.enable()
    _log.info("serving %s", settings.worker_socket)
    _tell(ready_fd, "ready")
    await worker.run(listener)
    _log.info("ended")
    _leave_soon()


def _leave_soon() -> None:
    """All is written and closed: a thread that still reads (a scrub, say) holds up nothing."""
    last = threading.Timer(LINGER_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()


def _serves(settings: Settings) -> bool:
    """Whether a worker listens."""
    if (other := connect(settings)) is None:
        return False
    other.close()
    return True


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, mode 0600; what a killed worker left there is replaced."""
    listener = protocol.new_socket()
    try:
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise WorkerStartError(
            f"the worker cannot listen at {path}: {error}",
            cure="Set FLUIDPY_RUNTIME_DIR to a short path of your own.",
        ) from error
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)
        listener.close()


def _raise_descriptor_limit() -> None:
    """Each open cache file and client takes a descriptor: take all that may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # "no limit" where the kernel has one (fs.nr_open)
        _log.warning("the limit of open files stays at %d: %s", soft, error)


def _tell(fd: int | None, line: str) -> None:
    if fd is None:
        return
    with contextlib.suppress(OSError), open(fd, "w", encoding="utf-8") as pipe:
        pipe.write(line + "\n")  # whoever started us may have given up waiting
