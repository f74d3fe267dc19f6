"""The control plane as a process: its lock, log, signals, beginning and end.

One a user and runtime directory: whoever holds the lock on `control.lock`. It ends when it is told
to; workers and mounts then stay, or end with it, as it is told.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fluidpy.client.start import prepare_runtime_directory
from fluidpy.errors import ControlPlaneError, FluidpyError
from fluidpy.settings import Settings, load_settings
from fluidpy.telemetry.logs import log_to_stderr

if TYPE_CHECKING:
    from fluidpy.control.control_plane import ControlPlane

_log = logging.getLogger(__name__)

LOCK_FILE: Final = "control.lock"
LOG_FILE: Final = "control.log"


def main(arguments: Sequence[str]) -> int:
    """Runs the control plane until its end; the exit code. Failures go to stderr and the pipe."""
    parser = argparse.ArgumentParser(prog="python -m fluidpy.control")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="write `ready` to this pipe")
    ready_fd: int | None = parser.parse_args(arguments).ready_fd
    log_to_stderr()
    try:
        run_control_plane(load_settings(), ready_fd)
    except FluidpyError as error:
        _log.error("%s", error)
        _tell(ready_fd, json.dumps(error.to_wire()))
        return error.exit_code
    return 0


def run_control_plane(settings: Settings, ready_fd: int | None) -> None:
    """Serves until told to stop. Raises ControlPlaneError, WorkerError."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the objects hold secrets
    prepare_runtime_directory(settings.runtime_dir)
    lock = _lock(settings.runtime_dir / LOCK_FILE)
    try:
        asyncio.run(_serve(settings, ready_fd))
    finally:
        os.close(lock)


async def _serve(settings: Settings, ready_fd: int | None) -> None:
    gc.disable()  # nothing that is imported is garbage: a tenth of the start
    try:
        from fluidpy.control.control_plane import ControlPlane
    except ImportError as error:
        raise ControlPlaneError(
            f"the control plane needs a library that is not installed: {error.name}",
            cure="Install the extra: pip install 'fluidpy[control]'",
        ) from error
    control_plane = ControlPlane(settings)
    await control_plane.start()
    gc.freeze()
    gc.enable()
    _end_on_signals(control_plane)
    _log.info("serving %s", settings.control_socket)
    _tell(ready_fd, "ready")
    await control_plane.run()
    _log.info("ended")


def _end_on_signals(control_plane: ControlPlane) -> None:
    """A signal ends this process alone: its workers and mounts go on, for the next one to find."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, control_plane.end, signal.Signals(number).name)


def _lock(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ControlPlaneError(
            f"{path} cannot be made: {error.strerror}", cure="Set FLUIDPY_RUNTIME_DIR."
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ControlPlaneError(
            f"a control plane runs already ({path} is locked)",
            cure="`fluidpy status` shows it; `fluidpy down` ends it.",
        ) from None
    return fd


def _tell(fd: int | None, line: str) -> None:
    if fd is None:
        return
    with contextlib.suppress(OSError), open(fd, "w", encoding="utf-8") as pipe:
        pipe.write(line + "\n")  # whoever started us may have given up waiting
